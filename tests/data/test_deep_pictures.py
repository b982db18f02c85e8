"""Pictures of 16 and 32 bits and of floating-point numbers, in files, arrays and PIL pictures."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from config.base import PROJECT
from config.errors import InputError
from data.images import ImageError, picture_size, read_image
from data.load_picture import load_picture
from data.stretch import stretch_picture

STRETCH = (1.0, 99.0, 0.7)
CAMERA = np.random.default_rng(0).integers(100, 3000, (9, 13, 4), dtype=np.uint16)
DTYPES = ["uint8", "uint16", "int8", "int16", "int32", "float32", "float64"]
GREY, COLOURS, ALPHA = 0, slice(3), slice(4)


def write(path: Path, values: np.ndarray) -> Path:
    """Write the values of a picture, [H, W] or RGB or RGBA, without a change."""
    bgr = values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]
    # OpenCV 4 packs colours of float32 otherwise, which loses digits.
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if path.suffix == ".tif" else []
    path.write_bytes(cv2.imencode(path.suffix, bgr, options)[1].tobytes())
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [GREY, COLOURS, ALPHA], ids=["grey", "colours", "alpha"])
def test_a_file_of_any_depth_is_stretched_without_its_alpha(tmp_path, dtype, channels):
    values = CAMERA[..., channels].astype(dtype)
    if values.ndim == 3:
        values[0, 0] = np.arange(values.shape[2])  # channels in the wrong order would differ
    image = read_image(write(tmp_path / "a.tif", values), STRETCH)
    shown = values[..., :3] if values.ndim == 3 else values
    np.testing.assert_array_equal(image, stretch_picture(shown, STRETCH))
    assert image.shape == (9, 13, 3) and image.flags.c_contiguous and image.flags.writeable


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_depths_without_a_known_white_need_stretch(tmp_path, dtype):
    path = write(tmp_path / "a.tif", CAMERA[..., :3].astype(dtype))
    with pytest.raises(ImageError, match=f"TIFF with {dtype} samples, .* or set data.stretch of the config$"):
        read_image(path)
    assert picture_size(path) in (None, (9, 13))


def test_a_png_is_stretched_as_a_tiff_and_an_8_bit_file_too(tmp_path):
    deep = write(tmp_path / "a.png", CAMERA[..., 0])
    np.testing.assert_array_equal(read_image(deep, STRETCH), stretch_picture(CAMERA[..., 0], STRETCH))
    grey = (CAMERA[..., 0] // 16).astype(np.uint8)
    np.testing.assert_array_equal(read_image(write(tmp_path / "b.png", grey), STRETCH), stretch_picture(grey, STRETCH))
    assert read_image(deep).max() == 2999 // 256


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_deep_picture_comes_out_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(CAMERA[..., 0]).save(tmp_path / f"a.{suffix}", exif=exif)
    upright = np.rot90(CAMERA[..., 0], -1)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}", STRETCH), stretch_picture(upright, STRETCH))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "bool", ">u2"])
def test_arrays_other_than_uint8_are_stretched_if_they_are_pictures(dtype):
    for values in (CAMERA[..., 0].astype(dtype), CAMERA[..., :3].astype(dtype)):
        expected = values if dtype == "bool" else stretch_picture(values, STRETCH)
        np.testing.assert_array_equal(load_picture(values, STRETCH), expected)
        assert load_picture(values) is values
    for other in (CAMERA.astype(dtype), CAMERA[0, 0].astype(dtype), CAMERA[:0, :, 0], CAMERA[..., :3].astype(np.uint8)):
        assert load_picture(other, STRETCH) is other


def test_pil_pictures_of_16_and_32_bits_are_stretched():
    grey = CAMERA[..., 0]
    expected = stretch_picture(grey, STRETCH)
    for dtype, mode in (("uint16", "I;16"), ("int32", "I"), ("float32", "F")):
        picture = Image.fromarray(grey.astype(dtype))
        assert picture.mode == mode
        np.testing.assert_array_equal(load_picture(picture, STRETCH), expected)
    shallow = Image.fromarray((grey // 16).astype(np.uint8))
    np.testing.assert_array_equal(load_picture(shallow, STRETCH), load_picture(shallow))
    with pytest.raises(InputError, match="or set data.stretch of the config"):
        load_picture(Image.fromarray(grey.astype(np.int32)))


def test_unknown_and_wrong_tags_print_nothing(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, text in ((33628, "camera"), (65024, "gain 2"), (51123, "{}")):
        tags[number] = text
        tags.tagtype[number] = 2
    path = tmp_path / "a.tif"
    Image.fromarray(CAMERA[..., 0]).save(path, tiffinfo=tags, dpi=(72, 72))
    content = path.read_bytes()
    unit = struct.pack("<HHI", 296, 3, 1)  # of the resolution: a single number of 16 bits
    assert content.count(unit) == 1
    path.write_bytes(content.replace(unit, struct.pack("<HHI", 296, 3, 2)))
    calls = f"p = {str(path)!r}; read_image(p); read_image(p, (1, 99, 1)); picture_size(p)"
    program = f"from data.images import picture_size, read_image; {calls}"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
