"""Large masks are held as bits, with the same results as arrays."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from tests.support.programs import run_python
from tools.predict import packed_masks
from tools.predict.instances import Instances
from tools.predict.mask_windows import masks_at_picture_size
from tools.predict.packed_masks import PackedMask

HELD = """
import numpy as np
from tools.predict.mask_windows import masks_at_picture_size
from tools.common.memory import peak_memory, reset_peak_memory

noise = np.random.default_rng(0).random((60, 50, 50), np.float32)
masks_at_picture_size(noise[:2], stride=4, resized=(200, 200), original=(3000, 3000), threshold=0.5)
reset_peak_memory()
before = peak_memory()
crops = masks_at_picture_size(noise, stride=4, resized=(200, 200), original=(3000, 3000), threshold=0.5)
print(peak_memory() - before)
"""


@settings(max_examples=100)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_a_packed_mask_comes_back_in_the_order_of_its_memory(mask):
    for array in (mask, np.asfortranarray(mask), np.pad(mask, 3)[3:-3, 3:-3]):
        unpacked = PackedMask(array).unpack()
        assert unpacked.dtype == bool and np.array_equal(unpacked, array)
        if min(mask.shape) > 1:
            assert unpacked.flags.f_contiguous == (array.strides[0] < array.strides[1])


def test_all_results_are_those_of_arrays(monkeypatch):
    noise = np.random.default_rng(0).random((3, 20, 20), np.float32)
    image = np.zeros((90, 120, 3), np.uint8)

    def results() -> tuple:
        crops = masks_at_picture_size(noise, stride=4, resized=(60, 80), original=(90, 120), threshold=0.5)
        found = Instances.from_crops((90, 120), crops, np.ones(3), np.zeros(3), ("a",), (1,))
        chosen = found[[2, 0]]
        drawings = [one.draw(image).tobytes() for one in (found, chosen)]
        rows = [one.to_coco(1, polygons=True) for one in (found, chosen, *found)]
        return drawings, rows, found.masks.tobytes(), [crop.tobytes() for crop in found.crops]

    expected = results()
    monkeypatch.setattr(packed_masks, "MIN_PIXELS", 0)
    packed = []
    monkeypatch.setattr(PackedMask, "unpack", lambda self, unpack=PackedMask.unpack: packed.append(1) or unpack(self))
    assert results() == expected and packed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_the_masks_of_a_large_picture_do_not_fill_the_memory():
    done = run_python("-c", HELD)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300  # MiB; 60 arrays take 515
