"""
Where each reply stands in the journal's files, in some 40 bytes of memory and not in the hundreds that a dict of UUIDs
takes: a run of a million requests may not grow by what it has done.
"""

from array import array
from uuid import UUID

_OFFSET_BITS = 40  # a file of a terabyte; 2^24 files
_FULLEST = 0.6
_HALF = (1 << 64) - 1


class Places:
    """
    A map from the key of a request to (file number, offset): an open-addressing hash table over two arrays.

    It knows keys by half of their bits. Whoever reads the line must compare the whole key: with ten million replies two
    share a half with a chance of three in a million, and then one of them is asked again.
    """

    def __init__(self) -> None:
        self._num = 0
        self._keys = array("Q", bytes(8 << 10))  # 0: free
        self._places = array("Q", bytes(8 << 10))

    def __len__(self) -> int:
        return self._num

    def get(self, key: UUID) -> tuple[int, int] | None:
        slot = self._slot(_short(key))
        if not self._keys[slot]:
            return None
        place = self._places[slot]
        return place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)

    def put(self, key: UUID, file: int, offset: int) -> None:
        if self._num >= _FULLEST * len(self._keys):
            self._grow()
        short = _short(key)
        slot = self._slot(short)
        self._num += not self._keys[slot]
        self._keys[slot] = short
        self._places[slot] = file << _OFFSET_BITS | offset

    def _slot(self, short: int) -> int:
        keys, last = self._keys, len(self._keys) - 1
        slot = short & last
        while keys[slot] and keys[slot] != short:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        keys, places = self._keys, self._places
        self._keys, self._places = array("Q", bytes(16 * len(keys))), array("Q", bytes(16 * len(keys)))
        for short, place in zip(keys, places, strict=True):
            if short:
                slot = self._slot(short)
                self._keys[slot], self._places[slot] = short, place


def _short(key: UUID) -> int:
    return (key.int & _HALF) or 1
