"""Parts of pictures: those of TIFF files that are read without the rest have the pixels of the whole picture."""

from __future__ import annotations

import numpy as np
import pytest

from data.geometry import Window
from data.images import ImageError, read_image, read_stored_values, write_image
from data.picture_windows import OVERVIEW_SIDE, TiffWindows, WholePicture, open_windows

tifffile = pytest.importorskip("tifffile", reason="the extra [tiles] is not installed")

SIZE = 300, 410
WINDOWS = [Window(0, 0, *SIZE), Window(17, 33, 290, 350), Window(128, 256, 129, 257), Window(250, 0, 300, 410)]
STRETCH = (1.0, 99.8, 0.7, 150.0)
LAYOUTS = {
    "one strip": {"rowsperstrip": 300},
    "strips": {"rowsperstrip": 37},
    "big-endian": {"rowsperstrip": 37, "byteorder": ">"},
    "strips, deflate": {"rowsperstrip": 37, "compression": "zlib", "predictor": True},
    "tiles": {"tile": (128, 64)},
    "tiles, LZW": {"tile": (64, 64), "compression": "lzw"},
    "BigTIFF": {"tile": (64, 64), "compression": "zlib", "bigtiff": True},
}


def values_of(dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4000 if np.dtype(dtype).itemsize > 1 else 256, shape).astype(dtype)
    return values / 7 if values.dtype.kind == "f" else values


def write_tiff(path, values: np.ndarray, **layout: object) -> None:
    pytest.importorskip("imagecodecs")
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(path, values, photometric=photometric, **layout)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_parts_have_the_pixels_of_the_picture(tmp_path, dtype, shape, layout):
    path = tmp_path / "a.tif"
    write_tiff(path, values_of(dtype, shape), **layout)
    for stretch in ((), STRETCH):
        picture = open_windows(path, stretch, whole=0)
        assert isinstance(picture, TiffWindows) and picture.size == SIZE
        image, values = read_image(path, stretch), read_stored_values(path)
        for window in WINDOWS:
            top, left, bottom, right = window
            np.testing.assert_array_equal(picture.read(window), image[top:bottom, left:right])
            np.testing.assert_array_equal(
                picture.stored_values()[top:bottom, left:right], values[top:bottom, left:right]
            )
        np.testing.assert_array_equal(picture.overview().image, image)
        picture.close()


def test_floats_are_stretched_as_the_whole_picture(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, values_of(np.float32, SIZE), tile=(64, 64))
    picture = open_windows(path, STRETCH, whole=0)
    assert isinstance(picture, TiffWindows)
    np.testing.assert_array_equal(picture.read(WINDOWS[1]), read_image(path, STRETCH)[17:290, 33:350])


def test_jpeg_inside_of_a_tiff(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, values_of(np.uint8, (*SIZE, 3)), tile=(64, 64), compression="jpeg")
    picture = open_windows(path, whole=0)
    assert isinstance(picture, TiffWindows)
    np.testing.assert_array_equal(picture.read(WINDOWS[1]), read_image(path)[17:290, 33:350])


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "palette.tif", "turned.tif", "alpha.tif"])
def test_other_pictures_are_read_as_a_whole(tmp_path, name):
    path = tmp_path / name
    rng = np.random.default_rng(0)
    if path.suffix != ".tif":
        write_image(path, rng.integers(0, 256, (*SIZE, 3), np.uint8))
    elif name.startswith("palette"):
        colours = rng.integers(0, 2**16, (3, 256), np.uint16)
        tifffile.imwrite(path, rng.integers(0, 256, SIZE, np.uint8), photometric="palette", colormap=colours)
    elif name.startswith("turned"):
        tifffile.imwrite(path, rng.integers(0, 256, SIZE, np.uint8), extratags=[(274, "H", 1, 6, True)])
    else:
        tifffile.imwrite(
            path, rng.integers(0, 256, (*SIZE, 4), np.uint8), photometric="rgb", extrasamples=["unassalpha"]
        )
    picture = open_windows(path, whole=0)
    assert isinstance(picture, WholePicture)
    image = read_image(path)
    height, width = picture.size
    np.testing.assert_array_equal(picture.read(Window(10, 20, height, width)), image[10:, 20:])


def test_small_pictures_are_read_as_a_whole(tmp_path):
    write_tiff(tmp_path / "a.tif", values_of(np.uint8, SIZE))
    assert isinstance(open_windows(tmp_path / "a.tif"), WholePicture)


def test_the_overview_has_the_means_of_blocks(tmp_path):
    height, width = 50, 3 * OVERVIEW_SIDE - 1  # the last block repeats the last column
    values = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    write_tiff(tmp_path / "a.tif", values, tile=(16, 1024), compression="zlib")
    padded = np.pad(values, ((0, 1), (0, 1)), mode="edge").astype(np.float64)
    means = padded.reshape(17, 3, OVERVIEW_SIDE, 3).mean(axis=(1, 3))
    whole = WholePicture(read_image(tmp_path / "a.tif")).overview()
    parts = open_windows(tmp_path / "a.tif", whole=0).overview()
    assert whole.factor == parts.factor == 3
    np.testing.assert_array_equal(parts.image, whole.image)
    np.testing.assert_allclose(whole.image[..., 0], means, rtol=0, atol=0.51)


def test_a_damaged_part_names_the_file(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, values_of(np.uint8, SIZE), tile=(64, 64), compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[-1]
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    picture = open_windows(path, whole=0)
    with pytest.raises(ImageError, match="a.tif: damaged TIFF .*copy or save it again"):
        picture.read(Window(0, 0, *SIZE))
    path.write_bytes(content[: start - 200])
    with pytest.raises(ImageError, match="a.tif: "):
        open_windows(path, whole=0).read(Window(0, 0, *SIZE))
