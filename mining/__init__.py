"""Vectors in, hard negatives out: encoding, exact search and the choice of negatives. Imports nothing else of Skiff."""


class MiningError(Exception):
    """Something mining can explain: one line that says what, where and the remedy. Callers translate it."""
