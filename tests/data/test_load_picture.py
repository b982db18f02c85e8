"""Pictures as users give them to a predictor: arrays, files, and PIL pictures of every mode."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from config.errors import InputError
from data.images import read_image
from data.load_picture import load_picture
from tests.support import tiny

SCENE = tiny.scene(1, 64, 80)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_pil_pictures_of_any_mode_become_rgb(mode):
    picture = Image.new("LAB", (80, 64)) if mode == "LAB" else Image.fromarray(SCENE).convert(mode)
    image = load_picture(picture)
    assert (image.dtype, image.shape) == (np.uint8, (64, 80, 3))
    if mode in ("RGB", "RGBA", "RGBX", "CMYK"):
        np.testing.assert_array_equal(image, SCENE)


def test_a_pil_picture_gives_what_its_file_gives(tmp_path):
    for name, picture in {
        "grey.png": Image.fromarray(SCENE).convert("L"),
        "deep.png": Image.fromarray(SCENE[..., 0].astype(np.uint16) * 257),
        "alpha.png": Image.fromarray(np.dstack([SCENE, SCENE[..., :1]])),
    }.items():
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(load_picture(picture), read_image(tmp_path / name), err_msg=name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_pil_picture_as_its_file(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(SCENE).save(tmp_path / "a.png", exif=exif)
    expected = read_image(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(load_picture(picture), expected)


def test_a_turned_tiff_as_a_pil_picture_is_refused(tmp_path):
    """Pillow's pixels of such a file are no rotation of the picture."""
    for orientation, suffix in ((1, "tif"), (6, "tif"), (6, "png")):
        exif = Image.Exif()
        exif[0x112] = orientation
        Image.fromarray(SCENE[..., 0]).save(tmp_path / f"a.{suffix}", exif=exif)
        with Image.open(tmp_path / f"a.{suffix}") as picture:
            if (orientation, suffix) == (6, "tif"):
                with pytest.raises(InputError, match="a TIFF with an orientation, which Pillow reads wrongly"):
                    load_picture(picture)
            else:
                np.testing.assert_array_equal(load_picture(picture), read_image(tmp_path / f"a.{suffix}"))


def test_a_predictor_takes_pil_pictures():
    predictor, picture = tiny.tiny_predictor(), Image.fromarray(SCENE)
    expected = predictor(SCENE).to_coco()
    assert predictor(picture).to_coco() == expected
    assert [found.to_coco() for found in predictor([picture, SCENE])] == [expected] * 2


def test_pictures_that_cannot_be_used_are_one_line(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-300])
    wrong = {
        "white is unknown": Image.new("F", (4, 4)),
        "cannot be decoded": Image.open(tmp_path / "cut.jpg"),
        "is not a picture": 3,
    }
    for says, picture in wrong.items():
        with pytest.raises(InputError, match=says) as error:
            load_picture(picture)
        assert "\n" not in str(error.value)
