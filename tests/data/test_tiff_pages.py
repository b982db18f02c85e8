"""The number of pages in TIFF files, damaged ones too, and layouts that OpenCV reads wrongly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data.images import ImageError, read_image, read_stored_values
from data.tiff_pages import count_pages, misread_layout

GREY = np.arange(9 * 13, dtype=np.uint16).reshape(9, 13)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pages", [1, 2, 5])
def test_the_pages_of_a_tiff_are_counted(tmp_path, pages, big):
    first, *others = [Image.fromarray(GREY[number:]) for number in range(pages)]
    path = tmp_path / "stack.tif"
    first.save(path, save_all=True, append_images=others, big_tiff=big)
    assert count_pages(path) == pages
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        assert 1 <= count_pages(path) <= pages


def test_files_without_pages_have_one(tmp_path):
    circle = b"MM\0*" + b"\0\0\0\x08" + b"\0\1" + bytes(12) + b"\0\0\0\x08"
    far = b"II+\0\x08\0\0\0" + b"\xff" * 8
    for content in (b"", b"II", b"\x89PNG\r\n", circle, far):
        (tmp_path / "a").write_bytes(content)
        assert count_pages(tmp_path / "a") == 1
    assert count_pages(tmp_path / "gone") == 1


RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 60000, (3, 9, 13), np.uint16)
ALPHA = {"photometric": "minisblack", "extrasamples": ["unassalpha"]}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (RGB, {"photometric": "rgb", "planarconfig": "separate"}, "each channel apart"),
        (RGB.astype(np.float32), {"photometric": "rgb", "planarconfig": "separate"}, "each channel apart"),
        (np.dstack([GREY, GREY]), ALPHA, "grey of 16 bits and alpha"),
        (GREY, {"photometric": "miniswhite"}, "stores white as 0"),
    ],
)
def test_what_opencv_reads_wrongly_is_refused(tmp_path, values, options, says, big, byteorder):
    tifffile = pytest.importorskip("tifffile")  # comes with scikit-image
    tifffile.imwrite(tmp_path / "a.tif", values, bigtiff=big, byteorder=byteorder, **options)
    with pytest.raises(ImageError, match=f"TIFF.*{says}"):
        read_stored_values(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("read", [read_image, read_stored_values])
def test_bands_that_the_file_calls_grey_are_refused(tmp_path, dtype, read):
    """OpenCV gives the first one, or a mean with the weights of red, green and blue."""
    tifffile = pytest.importorskip("tifffile")
    values = np.moveaxis(RGB, 0, -1).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match="TIFF of 3 bands that are not named as colours"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_values_are_no_picture_of_8_bits(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    values = np.array([[-4, 0, 100]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(read_stored_values(tmp_path / "a.tif"), values)
    with pytest.raises(ImageError, match=r"TIFF of signed values.*data\.stretch"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_other_layouts_are_read_as_they_are(tmp_path, dtype, byteorder):
    tifffile = pytest.importorskip("tifffile")
    grey, colour = GREY.astype(dtype), np.moveaxis(RGB, 0, -1).astype(dtype)
    for values, options in ((grey, {}), (colour, {"photometric": "rgb"}), (colour, {"planarconfig": "contig"})):
        tifffile.imwrite(tmp_path / "a.tif", values, byteorder=byteorder, **options)
        np.testing.assert_array_equal(read_stored_values(tmp_path / "a.tif"), values)
    tifffile.imwrite(tmp_path / "a.tif", RGB.astype(np.uint8), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(RGB.astype(np.uint8), 0, -1))


def test_a_damaged_list_of_tags_ends(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    for place in range(len(content)):
        misread_layout(content[:place] + b"\xff" * 8 + content[place + 8 :], as_stored=True)


@pytest.mark.parametrize("tile", [(64, 64), (64, 128), (16, 112)])
def test_grey_tiles_of_16_bits_are_read_like_strips(tmp_path, tile):
    """OpenCV 5.0 fills the tiles at the right border with other values."""
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(0, 2**16, (90, 150)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "tiles.tif", values, tile=tile)
    tifffile.imwrite(tmp_path / "strips.tif", values, rowsperstrip=16)
    np.testing.assert_array_equal(read_image(tmp_path / "tiles.tif"), read_image(tmp_path / "strips.tif"))
    np.testing.assert_array_equal(read_stored_values(tmp_path / "tiles.tif"), values)
