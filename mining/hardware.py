"""Where a model runs, and in what precision: chosen once, stated always."""

from dataclasses import dataclass

import torch

from mining import MiningError

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where a model runs and in what precision it multiplies; `reason` says why, for the screen and the record."""

    device: str
    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.device}, {self.precision} ({self.reason})"


def choose_hardware(device: str, precision: str) -> Hardware:
    """
    Turn `auto` into a device and a precision of this machine.

    Args:
        device: auto, or a device of torch (cpu, cuda, cuda:1, mps).
        precision: auto, bf16 or fp32; auto is bf16 where the hardware multiplies bf16 itself.

    Raises:
        MiningError: this machine has no such device, or there is no such precision.
    """
    if precision not in PRECISIONS:
        raise MiningError(f"there is no precision {precision!r}: use one of {', '.join(PRECISIONS)}")
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = found.type if found else "cpu"
    try:
        torch.zeros(1, device=device).item()  # refuses `meta` too, which can be named but holds nothing
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        first_line = str(error).splitlines()[0]
        raise MiningError(f"no device {device} on this machine ({first_line}): use auto or cpu") from None
    if precision != "auto":
        return Hardware(device, precision, "as configured")
    fast, reason = _bf16_support(torch.device(device))
    return Hardware(device, "bf16" if fast else "fp32", reason)


def choose_devices(device: str, precision: str) -> tuple[tuple[str, ...], str]:
    """
    Turn `auto` into all devices of this machine that compute together, and into a precision that suits each of them.

    Args:
        device: auto (every cuda device; without one, as `choose_hardware`), or devices of torch with commas between
            them. One that is named twice is used by two processes.
        precision: as for `choose_hardware`; auto is bf16 only if every device multiplies it itself.

    Raises:
        MiningError: this machine has no such device, or there is no such precision.
    """
    num_cuda = torch.cuda.device_count() if device == "auto" else 0
    names = [f"cuda:{number}" for number in range(num_cuda)] if num_cuda > 1 else device.split(",")
    chosen = [choose_hardware(name.strip(), precision) for name in names]
    precisions = {each.precision for each in chosen}
    return tuple(each.device for each in chosen), "fp32" if len(precisions) > 1 else precisions.pop()


def _bf16_support(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return fast, f"{torch.cuda.get_device_name(device)} {'computes' if fast else 'does not compute'} bf16"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        units = [name for name in ("amx_bf16", "avx512_bf16") if able.get(name)]
        return bool(units), f"this processor has {' and '.join(units) or 'no unit for bf16'}"
    return False, f"bf16 is not chosen on {device.type}"
