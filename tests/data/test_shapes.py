"""Generated scenes: the same seed gives the same picture, and masks are exact and disjoint."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from config.errors import InputError
from data import shapes
from data.images import find_images, write_image
from data.shapes import CLASS_NAMES, MAX_SHAPES, MIN_SHAPES, MIN_SIDE, MIN_VISIBLE, draw_scene, write_coco
from tools import draw_test_images

TEST_IMAGES = Path(__file__).resolve().parents[2] / "images" / "test"


def scene_of(seed: int, *, height: int = 96, width: int = 128) -> shapes.Scene:
    return draw_scene(rng=np.random.default_rng(seed), height=height, width=width)


def shape_mask(name: str, *, radius: float, angle: float = 0.0, aspect: float = 1.0) -> np.ndarray:
    """Return the mask of one shape in the middle of a 256 x 256 picture."""
    patch = shapes._rasterise(
        name, picture=(256, 256), centre=(128.0, 128.0), radius=radius, angle=angle, aspect=aspect
    )
    mask = np.zeros((256, 256), bool)
    mask[patch.window] = patch.mask
    assert mask.sum() == patch.full_area
    return mask


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), height=st.integers(MIN_SIDE, 300), width=st.integers(MIN_SIDE, 300))
def test_scene_is_sound_at_every_seed_and_size(seed, height, width):
    scene = scene_of(seed, height=height, width=width)
    count = len(scene.classes)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.shape == (count, height, width)
    assert scene.masks.dtype == bool
    assert scene.classes.dtype == np.int64
    assert MIN_SHAPES <= count <= MAX_SHAPES
    assert set(scene.classes.tolist()) <= set(range(len(CLASS_NAMES)))
    assert scene.masks.sum(axis=0).max() == 1, "masks overlap"
    # The smallest shape is a narrow star of 12 pixels: about 30 pixels in all.
    assert scene.masks.sum(axis=(1, 2)).min() >= 10


def test_same_generator_state_gives_the_same_scene_and_the_next_one_differs():
    rng = np.random.default_rng(3)
    first, second = (draw_scene(rng=rng, height=80, width=90) for _ in range(2))
    again = scene_of(3, height=80, width=90)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    np.testing.assert_array_equal(first.classes, again.classes)
    assert not np.array_equal(first.image, second.image)


def test_scene_does_not_depend_on_the_number_of_threads():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        single = scene_of(5, height=300, width=400)
        cv2.setNumThreads(4)
        several = scene_of(5, height=300, width=400)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(single.image, several.image)


def test_enough_of_each_shape_stays_visible_though_shapes_do_hide_each_other(monkeypatch):
    painted = []
    paint = shapes._paint

    def remember(rng, image, patch):
        painted.append(patch)
        paint(rng, image, patch)

    monkeypatch.setattr(shapes, "_paint", remember)
    fractions = []
    for seed in range(40):
        painted.clear()
        scene = scene_of(seed)
        assert len(painted) == len(scene.masks)
        fractions += [mask.sum() / patch.full_area for mask, patch in zip(scene.masks, painted)]
        for index, (mask, patch) in enumerate(zip(scene.masks, painted)):
            exact = np.zeros_like(mask)
            exact[patch.window] = patch.mask
            exact &= ~scene.masks[index + 1 :].any(axis=0)
            np.testing.assert_array_equal(mask, exact)
    assert min(fractions) >= MIN_VISIBLE
    assert 0.2 < np.mean(np.array(fractions) < 1) < 0.8


def test_every_class_and_both_ends_of_the_size_range_are_drawn():
    scenes = [scene_of(seed, height=128, width=128) for seed in range(60)]
    classes = np.concatenate([scene.classes for scene in scenes])
    areas = np.concatenate([scene.masks.sum(axis=(1, 2)) for scene in scenes])
    assert set(classes.tolist()) == set(range(len(CLASS_NAMES)))
    assert areas.min() < 12**2
    assert areas.max() > 45**2


def test_shapes_can_be_told_from_the_ground():
    """The mean colour inside a mask mostly differs clearly from that of the band around it."""
    steps = []
    for seed in range(20):
        scene = scene_of(seed, height=128, width=128)
        for mask in scene.masks:
            band = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))).astype(bool) & ~scene.masks.any(axis=0)
            if band.any():
                steps.append(np.linalg.norm(scene.image[mask].mean(axis=0) - scene.image[band].mean(axis=0)))
    assert np.median(steps) > 50
    assert np.mean(np.array(steps) < 20) < 0.1


@pytest.mark.parametrize(
    ("name", "unit_area"),
    [
        ("disc", math.pi),
        ("square", 2.0),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("ring", math.pi * (1 - 0.55**2)),
        ("cross", 4 * 0.6 * 0.95 - 0.6**2),
        ("star", 1.12257),  # 10 triangles with sides 1 and 0.38197 that meet at 36 degrees
        ("hexagon", 3 * math.sqrt(3) / 2),
    ],
)
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_area_is_that_of_the_geometry(name, unit_area, angle):
    assert shape_mask(name, radius=80.3, angle=angle).sum() == pytest.approx(unit_area * 80.3**2, rel=0.01)
    assert shape_mask(name, radius=80.3, angle=angle, aspect=0.8).sum() == pytest.approx(
        0.8 * unit_area * 80.3**2, rel=0.01
    )


@settings(max_examples=60)
@given(name=st.sampled_from(CLASS_NAMES), radius=st.floats(6, 100), angle=st.floats(0, 6.2), aspect=st.floats(0.75, 1))
def test_shape_stays_within_its_radius(name, radius, angle, aspect):
    y, x = np.nonzero(shape_mask(name, radius=radius, angle=angle, aspect=aspect))
    assert np.hypot(x + 0.5 - 128, y + 0.5 - 128).max() <= radius + 1e-3


def test_only_the_ring_has_a_hole():
    for name in CLASS_NAMES:
        outside = (~shape_mask(name, radius=60)).astype(np.uint8)
        regions = cv2.connectedComponents(outside, connectivity=4)[0] - 1
        assert regions == (2 if name == "ring" else 1), name


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="at least 64 pixels per side, not 63x200"):
        scene_of(0, height=63, width=200)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_coco_folder_contains_the_scenes(tmp_path, suffix):
    scenes = [scene_of(seed, height=70 + seed, width=100) for seed in range(3)]
    write_coco(scenes=iter(scenes), output=tmp_path / "shapes", suffix=suffix)

    coco = COCO(str(tmp_path / "shapes" / "annotations.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)
    assert len(coco.getImgIds()) == len(scenes)
    for image_id, scene in zip(coco.getImgIds(), scenes):
        record = coco.imgs[image_id]
        assert (record["height"], record["width"]) == scene.image.shape[:2]
        decoded = cv2.imread(str(tmp_path / "shapes" / "images" / record["file_name"]))[..., ::-1]
        difference = np.abs(decoded.astype(int) - scene.image)
        assert difference.mean() < 12 if suffix == ".jpg" else difference.max() == 0
        annotations = coco.imgToAnns[image_id]
        assert [row["category_id"] - 1 for row in annotations] == scene.classes.tolist()
        for row, mask in zip(annotations, scene.masks):
            np.testing.assert_array_equal(coco.annToMask(row), mask)
            y, x = np.nonzero(mask)
            assert row["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert row["area"] == mask.sum()
            assert row["iscrowd"] == 0
    assert not list(tmp_path.rglob("*.part"))


def test_pictures_in_the_repository_are_those_of_the_command(tmp_path, capsys):
    assert draw_test_images.main(["--output", str(tmp_path)]) == 0
    drawn, kept = find_images([tmp_path]), find_images([TEST_IMAGES])
    assert [path.name for path in drawn] == [path.name for path in kept]
    assert len({cv2.imread(str(path)).shape for path in kept}) == len(kept)
    for ours, theirs in zip(drawn, kept):
        difference = np.abs(cv2.imread(str(ours)).astype(int) - cv2.imread(str(theirs)))
        # JPEG codecs may differ by a few levels, PNG by none.
        assert difference.mean() < 3 if ours.suffix == ".jpg" else difference.max() == 0
    assert "wrote 12 pictures" in capsys.readouterr().out


def test_a_picture_of_the_user_is_not_drawn_over(tmp_path):
    for _ in range(2):
        assert draw_test_images.main(["--output", str(tmp_path)]) == 0
    write_image(tmp_path / "shapes_12.jpg", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "shapes_01.jpg").unlink()
    with pytest.raises(InputError, match=r"shapes_12\.jpg: not written by this project"):
        draw_test_images.main(["--output", str(tmp_path)])
    assert not (tmp_path / "shapes_01.jpg").exists()


def test_a_wrong_seed_is_one_line_and_status_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        draw_test_images.main(["--output", str(tmp_path), "--seed", "-1"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--seed: '-1': must be an integer >= 0" in error


def test_an_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken"):
        draw_test_images.main(["--output", str(tmp_path / "taken")])
