-- How many times the most that was expected of it the worst request of a run took: the next run keeps so much more free.
ALTER TABLE run_end ADD COLUMN excess DOUBLE;
