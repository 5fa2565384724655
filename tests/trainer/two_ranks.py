"""What each process of test_ranks.py does: `torchrun ... -m tests.trainer.two_ranks RELEASE CONFIG OUT`."""

import sys
from pathlib import Path

import torch

from synth.records import Task
from trainer.batches import make_plan
from trainer.config import read_config
from trainer.encoder import choose_hardware, load_encoder
from trainer.gradients import add_gradients, tokenise
from trainer.ranks import joined
from trainer.release import read_release
from trainer.texts import read_batch


def main(release: str, config: str, output: str) -> None:
    """Save the gradient of one step of each task, as this process has it."""
    torch.set_num_threads(1)
    read, settings = read_release(Path(release)), read_config(config)
    encoder = load_encoder(settings.model, choose_hardware("cpu", "fp32"))
    steps = make_plan(read, settings).steps
    with joined("cpu") as ranks:
        for task in Task:
            batch = read_batch(read, next(step for step in steps if step.task is task), settings)
            for cached in (True, False):
                encoder.model.zero_grad()
                tokens = tokenise(encoder, batch, ranks)
                measured = add_gradients(encoder, tokens, token_budget=60, cached=cached, ranks=ranks)
                gradients = {name: each.grad for name, each in encoder.model.named_parameters()}
                torch.save((measured.loss, measured.tokens, gradients), f"{output}/{task}-{cached}-{ranks.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
