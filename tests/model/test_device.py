"""The choice of the device."""

from __future__ import annotations

import paddle
import pytest

from config.errors import InputError
from model.device import select_device


@pytest.fixture(autouse=True)
def selected(monkeypatch):
    """Record the devices that Paddle is set to, without setting them."""
    names = []
    monkeypatch.setattr(paddle, "set_device", names.append)
    return names


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that makes Paddle see this number of GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
        monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: count)

    return pretend


def test_cpu_is_always_there(selected):
    assert select_device("cpu") == "cpu"
    assert selected == ["cpu"]


@pytest.mark.parametrize(("count", "device"), [(0, "cpu"), (1, "gpu:0"), (4, "gpu:0")])
def test_auto_takes_the_first_gpu_if_any(gpus, selected, count, device):
    gpus(count)
    assert select_device("auto") == device
    assert selected == [device]


def test_a_gpu_by_number(gpus):
    gpus(2)
    assert [select_device(name) for name in ("gpu", "gpu:0", "gpu:1")] == ["gpu:0", "gpu:0", "gpu:1"]


def test_one_of_many_processes_takes_the_gpu_that_the_launcher_gave_it(gpus, monkeypatch):
    gpus(4)
    monkeypatch.setenv("FLAGS_selected_gpus", "2")
    assert [select_device(name) for name in ("auto", "gpu", "gpu:1")] == ["gpu:2", "gpu:2", "gpu:1"]


@pytest.mark.parametrize(("count", "says"), [(0, "sees 0 GPUs"), (1, "sees 1 GPU;"), (2, "sees 2 GPUs")])
def test_a_gpu_that_is_not_there(gpus, selected, count, says):
    gpus(count)
    with pytest.raises(InputError, match=f"device gpu:{count}: .*{says}.*device cpu"):
        select_device(f"gpu:{count}")
    assert not selected


def test_a_paddle_without_gpus_names_the_package_to_install(monkeypatch, selected):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    with pytest.raises(InputError, match="paddlepaddle-gpu; use device cpu"):
        select_device("gpu")
    assert select_device("auto") == "cpu"
    assert selected == ["cpu"]


@pytest.mark.parametrize("name", ["", "cuda", "CPU", "gpu:", "gpu:-1", "gpu:a", "cpu:0", "xpu", " cpu", "cpu\n"])
def test_other_names_are_refused(name, selected):
    with pytest.raises(InputError, match="expected auto, cpu, gpu or gpu:0"):
        select_device(name)
    assert not selected
