"""
Several processes at one batch: who embeds which of its texts, and what they tell each other.

A step's texts are dealt out to the processes, whatever the task; each process embeds its own, all get all vectors, and
each works out the whole batch's loss and takes the gradient of its own vectors from it. So no process can be at another
task than the rest, nothing is detached that should not be, and the sum of all processes' gradients is that of one
process, to rounding. Started by `torchrun`, which sets RANK, WORLD_SIZE and LOCAL_RANK.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

TIMEOUT = timedelta(minutes=30)  # for the slowest process: it may be writing a checkpoint
BUCKET = 1 << 24  # elements that are summed at once


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`; the first one writes files and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def deal(self, sizes: Sequence[int]) -> list[list[int]]:
        """Places in `sizes` for each process: as many each, to one, and about as much; the same in every process."""
        hands: list[list[int]] = [[] for _ in range(self.size)]
        order = sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))
        for turn, place in enumerate(order):
            there, back = turn % self.size, turn // self.size % 2
            hands[self.size - 1 - there if back else there].append(place)
        return hands

    def gather(self, own_PD: Tensor, hands: Sequence[Sequence[int]]) -> Tensor:
        """All processes' rows, in the places that were dealt; no gradient goes through."""
        if self.size == 1:
            return own_PD[torch.tensor(hands[0], device=own_PD.device).argsort()]
        longest = max(map(len, hands))
        sent = own_PD.new_zeros(longest, own_PD.shape[1])
        sent[: len(own_PD)] = own_PD
        parts = [torch.empty_like(sent) for _ in hands]
        distributed.all_gather(parts, sent)
        rows = torch.cat([part[: len(hand)] for part, hand in zip(parts, hands, strict=True)])
        places = torch.tensor([place for hand in hands for place in hand], device=rows.device)
        return rows[places.argsort()]

    def most(self, number: int) -> int:
        """The highest of the processes' numbers."""
        if self.size == 1:
            return number
        found = torch.tensor(number, device=_device())
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def as_the_first(self, number: float) -> float:
        """The first process's number: of what each measured, so that all decide alike."""
        if self.size == 1:
            return number
        found = torch.tensor(number, dtype=torch.float64, device=_device())
        distributed.broadcast(found, 0)
        return float(found)

    def total(self, number: int) -> int:
        """The sum of the processes' numbers."""
        if self.size == 1:
            return number
        found = torch.tensor(number, device=_device())
        distributed.all_reduce(found)
        return int(found)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """
        Give every process the sum of all processes' gradients. What no process has a gradient of stays without one;
        a process that had no text has none of any.
        """
        if self.size == 1:
            return
        known = [each for each in parameters if each.requires_grad]
        has_P = torch.tensor([each.grad is not None for each in known], dtype=torch.uint8, device=_device())
        distributed.all_reduce(has_P, distributed.ReduceOp.MAX)
        for bucket in _buckets(each for each, has in zip(known, has_P.tolist(), strict=True) if has):
            for each in bucket:
                if each.grad is None:
                    each.grad = torch.zeros_like(each)
            gradients = [each.grad for each in bucket if each.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [each.numel() for each in gradients])
            for gradient, summed in zip(gradients, parts, strict=True):
                gradient.copy_(summed.view_as(gradient))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


def speaks() -> bool:
    """Whether this process is the first that `torchrun` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _buckets(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for parameter in parameters:
        bucket.append(parameter)
        if sum(each.numel() for each in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _device() -> torch.device:
    """What the processes' messages must be on."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def local_device(device: str) -> str:
    """The device for this process: of several GPUs of a machine its own."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if local is not None and device in ("auto", "cuda") and torch.cuda.is_available() else device


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that `torchrun` started, joined for as long as this lasts; this one alone if it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(torch.device(device))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
