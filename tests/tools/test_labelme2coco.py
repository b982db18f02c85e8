"""From folders of labelme files to a COCO file, its pictures and the options for training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from config import load_config
from config.base import PROJECT
from config.errors import InputError
from data.images import read_image
from tests.support.labelme_files import HEIGHT, WIDTH, add, annotate, in_base64, shape, write_picture
from tests.support.programs import run_python
from tools.labelme2coco import main


def convert(tmp_path: Path, *folders: str, options: tuple[str, ...] = ()) -> COCO:
    """Convert folders of `tmp_path` and read the result with pycocotools."""
    output = tmp_path / "out" / "mine.json"
    assert main([*(str(tmp_path / folder) for folder in folders), "--output", str(output), *options]) == 0
    return COCO(str(output))


def names_of(coco: COCO) -> list[str]:
    return [image["file_name"] for image in coco.dataset["images"]]


def options_in(printed: str) -> list[str]:
    """Return the overrides that the program recommends with -o."""
    return shlex.split(printed.rpartition("train on it with ")[2].splitlines()[0])[1::2]


def test_every_kind_of_shape_end_to_end(tmp_path):
    """Run as a user does, from another folder."""
    crop = np.ones((6, 8), np.uint8)
    mask = in_base64(cv2.imencode(".png", crop)[1].tobytes())
    add(
        tmp_path / "my photos",
        "a",
        shape("dog"),
        shape("cat", [[50, 30], [40, 20]], "rectangle"),
        shape("cat", [[20, 20], [20, 30]], "circle"),
        shape("rope", [[5, 35], [55, 35]], "line"),
        shape("rope", [[5, 5], [5, 30], [25, 30]], "linestrip", group_id=3),
        shape("rope", [[40, 5], [50, 5]], "linestrip", group_id=3),
        shape("cat", [[4, 2], [11, 7]], "mask", mask=mask),
        shape("cat", [[1, 1]], "point"),
        shape("__ignore__"),
        shape("dog", [[1, 1], [1, 1], [1, 1]]),
    )
    done = run_python(PROJECT / "tools/labelme2coco.py", "my photos", "--output", "out/all.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped 0; left out 1 shapes and 1 points" in done.stdout
    assert "a.json: shape 10: polygon 'dog' covers no pixel" in done.stderr
    coco = COCO(str(tmp_path / "out" / "all.json"))
    assert coco.dataset["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "rope"}]
    assert coco.dataset["images"] == [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    rows = coco.dataset["annotations"]
    assert [row["category_id"] for row in rows] == [2, 1, 1, 3, 3, 1]
    assert [row["area"] for row in rows[:2]] == [400, 100]
    assert rows[2]["area"] == pytest.approx(np.pi * 100, rel=0.02)
    assert rows[3]["area"] == pytest.approx(50 * 5 + np.pi * 2.5**2, rel=0.06)
    assert [isinstance(row["segmentation"], list) for row in rows] == [True] * 5 + [False]
    np.testing.assert_array_equal(np.argwhere(coco.annToMask(rows[5]))[[0, -1]], [[2, 4], [7, 11]])
    for row in rows:
        y, x = np.nonzero(coco.annToMask(row))
        assert row["area"] == len(x)
        assert row["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert (row["image_id"], row["iscrowd"]) == (1, 0)

    config = load_config(0, options_in(done.stdout))
    assert Path(config.train_path) == tmp_path / "out" / "all.json"
    assert read_image(Path(config.train_pre_path) / "a.png").shape == (HEIGHT, WIDTH, 3)


def test_pictures_of_two_folders_are_found_from_the_one_that_is_printed(tmp_path, capsys):
    add(tmp_path / "in" / "monday", "a")
    add(tmp_path / "in" / "tuesday", "a", shape("dog"))
    write_picture(tmp_path / "in" / "pictures" / "b.png")
    annotate(tmp_path / "in" / "tuesday" / "b.json", shape(), picture="..\\pictures\\b.png")
    coco = convert(tmp_path, "in/monday", "in/tuesday", "in/monday")
    assert names_of(coco) == ["monday/a.png", "tuesday/a.png", "pictures/b.png"]
    config = load_config(0, options_in(capsys.readouterr().out))
    assert all((Path(config.train_pre_path) / name).is_file() for name in names_of(coco))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_picture_that_only_the_file_holds_is_written_as_it_is(tmp_path, capsys, suffix):
    original = write_picture(tmp_path / f"original{suffix}", value=33)
    annotate(tmp_path / "in" / "a.b.json", shape(), picture="gone.tif", imageData=in_base64(original.read_bytes()))
    for _ in range(2):  # the second run finds existing files
        coco = convert(tmp_path, "in")
        assert names_of(coco) == [f"a.b{suffix}"]
    written = tmp_path / "out" / "mine_images" / f"a.b{suffix}"
    assert written.read_bytes() == original.read_bytes()
    assert Path(load_config(0, options_in(capsys.readouterr().out)).train_pre_path) == written.parent


def test_pictures_inside_of_files_stay_apart_by_folder_and_never_replace_another(tmp_path):
    for value, folder in ((10, "x"), (200, "y")):
        picture = write_picture(tmp_path / f"{folder}.png", value=value)
        annotate(
            tmp_path / "in" / folder / "a.json", shape(), picture="a.png", imageData=in_base64(picture.read_bytes())
        )
    kept = ("--images", str(tmp_path / "kept"))
    assert names_of(convert(tmp_path, "in/x", "in/y", options=kept)) == ["x/a.png", "y/a.png"]
    assert (tmp_path / "kept" / "y" / "a.png").read_bytes() == (tmp_path / "y.png").read_bytes()

    mine = write_picture(tmp_path / "kept" / "x" / "a.png", value=77).read_bytes()
    with pytest.raises(InputError, match="is another picture than the one in .*; give another folder with --images"):
        convert(tmp_path, "in/x", "in/y", options=kept)
    assert (tmp_path / "kept" / "x" / "a.png").read_bytes() == mine


@pytest.mark.parametrize(
    ("options", "says"),
    [(("--labels", "labels.txt"), "the label 'thing' is not in"), (("--val-fraction", "0.5"), "only one picture")],
)
def test_a_conversion_that_is_refused_writes_no_picture(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("dog\n")
    content = in_base64(write_picture(tmp_path / "x.png").read_bytes())
    annotate(tmp_path / "in" / "a.json", shape("thing"), picture="gone.png", imageData=content)
    with pytest.raises(InputError, match=says):
        convert(tmp_path, "in", options=options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "labels.txt", "x.png"]


def test_damaged_picture_beside_an_extracted_one_of_its_name_is_skipped(tmp_path, capsys):
    picture = write_picture(tmp_path / "x.jpg")
    annotate(tmp_path / "in" / "a.json", shape(), picture="gone.jpg", imageData=in_base64(b"no picture"))
    annotate(tmp_path / "in" / "b.json", shape(), picture="gone.jpg", imageData=in_base64(picture.read_bytes()))
    write_picture(tmp_path / "kept" / "a.jpg")
    assert names_of(convert(tmp_path, "in", options=("--images", str(tmp_path / "kept")))) == ["b.jpg"]
    assert "a.json: imageData: not a picture" in capsys.readouterr().err


def test_picture_on_disk_is_preferred_to_the_one_in_the_file(tmp_path):
    other = write_picture(tmp_path / "other.png", value=5)
    add(tmp_path / "in", "a", imageData=in_base64(other.read_bytes()))
    assert names_of(convert(tmp_path, "in")) == ["a.png"]
    assert not (tmp_path / "out" / "mine_images").exists()


def damage(folder: Path) -> dict[str, str]:
    """Write files that cannot be used; return the reason for each name."""
    add(folder, "text")
    (folder / "text.json").write_text("no JSON {")
    add(folder, "binary")
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    add(folder, "coco")
    (folder / "coco.json").write_text(json.dumps({"images": [], "annotations": []}))
    add(folder, "list")
    (folder / "list.json").write_text("[1, 2]")
    annotate(folder / "alone.json", shape())
    annotate(folder / "nameless.json", shape(), imagePath=None)
    annotate(folder / "numbered.json", shape(), imagePath=[5])
    annotate(folder / "long.json", shape(), picture="a" * 5000)
    (folder / "deep.json").write_text("[" * 100_000)
    annotate(folder / "spoilt.json", shape(), imageData="a")
    annotate(folder / "noise.json", shape(), imageData="AAAA")
    annotate(folder / "signs.json", shape(), imageData="AA?!*A")
    add(folder, "cut")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:-20])
    return {
        "text.json": "cannot be read as JSON",
        "binary.json": "cannot be read as JSON",
        "coco.json": "not a labelme file",
        "list.json": "not a labelme file",
        "alone.json": "alone.png is no file and is not in the labelme file",
        "nameless.json": "has neither imagePath nor imageData of a picture",
        "numbered.json": "has neither imagePath nor imageData of a picture",
        "long.json": "is no file and is not in the labelme file",
        "deep.json": "cannot be read as JSON",
        "spoilt.json": "imageData is not a picture in base64",
        "noise.json": "imageData: not a picture",
        "signs.json": "imageData is not a picture in base64",
        "cut.png": "truncated PNG",
    }


def test_files_that_cannot_be_used_are_named_and_the_others_converted(tmp_path, capsys):
    wrong = damage(tmp_path / "in")
    add(tmp_path / "in", "good")
    assert names_of(convert(tmp_path, "in")) == ["good.png"]
    printed = capsys.readouterr()
    assert f"read 1 files; skipped {len(wrong)};" in printed.out
    skipped = [line for line in printed.err.splitlines() if line.startswith("skipped ")]
    assert len(skipped) == len(wrong)
    for name, reason in wrong.items():
        assert any(f"{name}: " in line and reason in line for line in skipped), name
    assert not (tmp_path / "out" / "mine_images").exists()


def test_nothing_usable_is_an_error(tmp_path, capsys):
    wrong = damage(tmp_path / "in")
    with pytest.raises(InputError, match=f"none of {len(wrong)} files could be converted; see the reasons above"):
        convert(tmp_path, "in")
    assert capsys.readouterr().err.count("skipped ") == len(wrong)
    assert not list((tmp_path / "out").glob("*.json"))


def test_picture_without_shapes_is_kept(tmp_path):
    add(tmp_path / "in", "a")
    add(tmp_path / "in", "b", shape(points=[[0, 0], [1, 1]]))
    write_picture(tmp_path / "in" / "c.png")
    annotate(tmp_path / "in" / "c.json")
    coco = convert(tmp_path, "in")
    assert names_of(coco) == ["a.png", "b.png", "c.png"]
    assert len(coco.dataset["annotations"]) == 1


@pytest.mark.parametrize("stated", [{"imageHeight": None}, {"imageHeight": 3, "imageWidth": 4}])
def test_size_is_that_of_the_picture(tmp_path, capsys, stated):
    add(tmp_path / "in", "a", **stated)
    image = convert(tmp_path, "in").dataset["images"][0]
    assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
    warned = "a.json: made for 4x3 pixels, but the picture has 60x40" in capsys.readouterr().err
    assert warned == (stated["imageHeight"] == 3)


@pytest.mark.parametrize("stated", [("40", "60"), ([40], {}), (True, 60)], ids=str)
def test_size_that_is_not_a_number_is_named(tmp_path, capsys, stated):
    add(tmp_path / "in", "a", imageHeight=stated[0], imageWidth=stated[1])
    assert names_of(convert(tmp_path, "in")) == ["a.png"]
    assert "a.json: imageHeight and imageWidth are not integers; the coordinates" in capsys.readouterr().err


def test_picture_in_a_forbidden_folder_counts_as_missing(tmp_path, capsys, monkeypatch):
    add(tmp_path / "in", "good")
    annotate(tmp_path / "in" / "a.json", shape(), picture="closed/a.png")
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    assert names_of(convert(tmp_path, "in")) == ["good.png"]
    assert "closed/a.png is no file and is not in the labelme file" in capsys.readouterr().err


def write_rotated_picture(path: Path) -> None:
    """Write a rotated picture with an Exif orientation: upright it has HEIGHT x WIDTH pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(path, exif=exif)


def test_rotated_picture_has_the_coordinates_of_the_upright_one(tmp_path, capsys):
    write_rotated_picture(tmp_path / "in" / "a.jpg")
    annotate(tmp_path / "in" / "a.json", shape(points=[[50, 0], [WIDTH, 10]], kind="rectangle"), picture="a.jpg")
    coco = convert(tmp_path, "in")
    assert coco.dataset["images"][0]["width"] == WIDTH
    assert coco.dataset["annotations"][0]["bbox"] == [50, 0, 10, 10]
    assert read_image(tmp_path / "in" / "a.jpg").shape[:2] == (HEIGHT, WIDTH)
    assert capsys.readouterr().err == ""


def test_picture_annotated_without_its_rotation_is_refused(tmp_path, capsys):
    add(tmp_path / "in", "good")
    write_rotated_picture(tmp_path / "in" / "a.jpg")
    annotate(tmp_path / "in" / "a.json", shape(), picture="a.jpg", imageHeight=WIDTH, imageWidth=HEIGHT)
    assert names_of(convert(tmp_path, "in")) == ["good.png"]
    assert "a.json: made for 40x60 pixels, but the picture has 60x40 when it is upright" in capsys.readouterr().err


def test_two_files_for_one_picture_are_both_named(tmp_path):
    add(tmp_path / "in", "a")
    annotate(tmp_path / "more" / "b.json", shape(), picture="../in/a.png")
    with pytest.raises(InputError, match=r"in/a\.json and .*more/b\.json: both annotate .*a\.png; keep one"):
        convert(tmp_path, "in", "more")


def test_labels_give_classes_and_their_order(tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nzebra\ncat\ndog\n")
    add(tmp_path / "in", "a", shape("dog"), shape("cat"))
    coco = convert(tmp_path, "in", options=("--labels", str(tmp_path / "labels.txt")))
    assert coco.dataset["categories"] == [
        {"id": 3, "name": "zebra"},
        {"id": 4, "name": "cat"},
        {"id": 5, "name": "dog"},
    ]
    assert [row["category_id"] for row in coco.dataset["annotations"]] == [5, 4]


def test_labels_without_their_white_space_and_those_that_differ_by_case_are_named(tmp_path, capsys):
    add(tmp_path / "in", "a", shape("cat"), shape(" Cat "), shape("cat\t"), shape("dog "))
    rows = convert(tmp_path, "in").dataset["categories"]
    assert [row["name"] for row in rows] == ["Cat", "cat", "dog"]
    assert capsys.readouterr().err.splitlines()[-1] == (
        "doubtful classes 'Cat' and 'cat': differ only in upper and lower case; "
        "correct the labels if they are one class"
    )


def test_unknown_label_is_named_with_its_file(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\n")
    add(tmp_path / "in", "a")
    add(tmp_path / "in", "b", shape("cta"))
    with pytest.raises(InputError, match=r"b\.json: the label 'cta' is not in .*labels\.txt; add it"):
        convert(tmp_path, "in", options=("--labels", str(tmp_path / "labels.txt")))
    assert not (tmp_path / "out" / "mine.json").exists()


def test_pictures_without_any_instance_need_labels(tmp_path):
    add(tmp_path / "in", "a", shape("__ignore__"))
    with pytest.raises(InputError, match="give --labels"):
        convert(tmp_path, "in")
    (tmp_path / "labels.txt").write_text("cat\n")
    assert names_of(convert(tmp_path, "in", options=("--labels", str(tmp_path / "labels.txt")))) == ["a.png"]


def test_line_width_and_seed_are_options(tmp_path):
    for number in range(12):
        add(tmp_path / "in", f"p{number}", shape("rope", [[5, 20], [55, 20]], "line"))
    narrow = convert(tmp_path, "in", options=("--line-width", "4"))
    wide = convert(tmp_path, "in", options=("--line-width", "12"))
    assert narrow.anns[1]["bbox"][3] == 4
    assert wide.anns[1]["bbox"][3] == 12
    splits = [convert(tmp_path, "in", options=("--val-fraction", "0.5", "--seed", seed)) for seed in "011"]
    assert names_of(splits[1]) == names_of(splits[2]) != names_of(splits[0])


def test_validation_gets_its_share_and_a_file_of_its_own(tmp_path, capsys):
    for number in range(10):
        add(tmp_path / "in", f"p{number}", shape("cat" if number else "dog"))
    train = convert(tmp_path, "in", options=("--val-fraction", "0.3"))
    val = COCO(str(tmp_path / "out" / "mine_val.json"))
    assert (len(names_of(train)), len(names_of(val))) == (7, 3)
    assert set(names_of(train)) | set(names_of(val)) == {f"p{number}.png" for number in range(10)}
    assert train.dataset["categories"] == val.dataset["categories"]
    assert sorted(val.imgs) == [1, 2, 3] == [row["image_id"] for row in val.dataset["annotations"]]
    config = load_config(0, options_in(capsys.readouterr().out))
    assert Path(config.val_path) == tmp_path / "out" / "mine_val.json"
    assert config.val_pre_path == config.train_pre_path == (tmp_path / "in").as_posix()


def test_one_picture_cannot_be_shared_out(tmp_path):
    add(tmp_path / "in", "a")
    with pytest.raises(InputError, match="--val-fraction: there is only one picture"):
        convert(tmp_path, "in", options=("--val-fraction", "0.5"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--val-fraction", "1"), "leaves no picture to train on"),
        (("--val-fraction", "10%"), "--val-fraction"),
        (("--line-width", "0"), "--line-width"),
        (("--line-width", "1000000000000000000"), "too wide; must be <= 1000000"),
    ],
)
def test_wrong_option_is_one_line_and_status_2(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        convert(tmp_path, "in", options=options)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_folder_that_is_missing_or_empty_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="gone: .*; give a folder"):
        convert(tmp_path, "gone")
    with pytest.raises(InputError, match=r"empty: no \.json files in this folder"):
        convert(tmp_path, "empty")


@pytest.mark.parametrize("name", ["a.json", "new.json"])
def test_output_among_the_labelme_files_is_refused(tmp_path, name):
    add(tmp_path / "in", "a")
    before = (tmp_path / "in" / "a.json").read_bytes()
    with pytest.raises(InputError, match="give another folder"):
        main([str(tmp_path / "in"), "--output", str(tmp_path / "in" / name)])
    (tmp_path / "labels.txt").write_text("cat")
    with pytest.raises(InputError, match="is read too"):
        main([str(tmp_path / "in"), *(f"--{option}={tmp_path / 'labels.txt'}" for option in ("output", "labels"))])
    assert (tmp_path / "in" / "a.json").read_bytes() == before


def test_a_validation_file_of_an_earlier_run_is_named(tmp_path, capsys):
    for name in "abc":
        add(tmp_path / "in", name)
    convert(tmp_path, "in", options=("--val-fraction", "0.3"))
    convert(tmp_path, "in", options=("--val-fraction", "0.6"))
    assert "stale" not in capsys.readouterr().err
    convert(tmp_path, "in")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "stale" in line]
    assert line.startswith(f"stale {tmp_path / 'out' / 'mine_val.json'}: ")
