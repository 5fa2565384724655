"""mining.hardware: which devices and which precision `auto` means, and what is refused."""

import pytest
import torch

from mining import MiningError, hardware
from mining.hardware import Hardware, choose_devices, choose_hardware


def test_without_an_accelerator_auto_is_this_processor() -> None:
    if not torch.accelerator.is_available():
        assert choose_hardware("auto", "fp32") == Hardware("cpu", "fp32", "as configured")
        assert choose_devices("auto", "fp32") == (("cpu",), "fp32")


@pytest.mark.parametrize(
    ("units", "precision", "reason"),
    [
        ({}, "fp32", "this processor has no unit for bf16"),
        ({"avx512_bf16": True}, "bf16", "this processor has avx512_bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, "bf16", "this processor has amx_bf16 and avx512_bf16"),
    ],
)
def test_bf16_is_chosen_where_the_processor_multiplies_it_and_the_reason_is_stated(
    units: dict[str, bool], precision: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert choose_hardware("cpu", "auto") == Hardware("cpu", precision, reason)
    assert str(choose_hardware("cpu", "auto")) == f"cpu, {precision} ({reason})"


def test_devices_are_named_with_commas_and_one_may_be_named_twice() -> None:
    assert choose_devices("cpu, cpu", "fp32") == (("cpu", "cpu"), "fp32")


def test_auto_takes_every_gpu_and_a_precision_that_suits_the_weakest(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(device: str, precision: str) -> Hardware:
        return Hardware(device, "fp32" if device == "cuda:2" else "bf16", "a test")

    monkeypatch.setattr(hardware, "choose_hardware", chosen)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_devices("auto", "auto") == (("cuda:0", "cuda:1"), "bf16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert choose_devices("auto", "auto") == (("cuda:0", "cuda:1", "cuda:2"), "fp32")
    assert choose_devices("cuda:1", "auto") == (("cuda:1",), "bf16")


@pytest.mark.parametrize("device", ["warp", "cpu,warp", "cpu,", "meta"])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    with pytest.raises(MiningError, match=r"no device .* on this machine \(.*\): use auto or cpu") as caught:
        choose_devices(device, "auto")
    assert "\n" not in str(caught.value)
