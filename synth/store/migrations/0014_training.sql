-- Which samples went into which step of a training run: what its plan says, of the steps that were trained.
CREATE TABLE train_step (
    run_id UUID, step INTEGER, stage INTEGER, task VARCHAR, dataset VARCHAR, loss DOUBLE, sample_ids UUID[]
);
