"""From files of pictures to drawings and results: order, threads, unreadable files and full disks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from config.errors import InputError
from data.images import find_images, read_image, write_image
from data.written import write_drawing, write_json
from tests.support import tiny
from tools.engine.dynamic import DynamicEngine
from tools.predict import picture_files
from tools.predict.instances import Instances
from tools.predict.jobs import plan_jobs
from tools.predict.pipeline import Report, predict_files
from tools.predict.predictor import Predictor


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve pictures of two sizes, named by number as in COCO; nobody writes here."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        write_image(folder / f"{number * 7:012d}.png", tiny.scene(number, *((80, 120), (120, 80))[number % 2]))
    return folder


def files(folder: Path) -> list[Path]:
    return find_images([folder])


def predict(paths, *, drawings=None, predictor=None, threads=2, **options) -> Report:
    predictor = predictor or tiny.tiny_predictor()
    wanted = [picture_files.drawings(drawings)] if drawings else []
    return predict_files(predictor, plan_jobs(paths, wanted), files=wanted, threads=threads, **options)


def test_a_folder_of_pictures_becomes_drawings_and_rows(photos, tmp_path):
    report = predict(files(photos), drawings=tmp_path / "drawn", results=tmp_path / "rows.json")
    assert (report.pictures, report.problems) == (12, [])
    assert [path.name for path in files(tmp_path / "drawn")] == [path.name for path in files(photos)]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == report.instances > 0
    order = [row["image_id"] for row in rows]
    assert [image_id for image_id, _ in itertools.groupby(order)] == [number * 7 for number in range(12)]
    for row in rows[:5]:
        image = read_image(photos / row["file_name"])
        assert row["segmentation"]["size"] == list(image.shape[:2])
    drawn = read_image(tmp_path / "drawn" / "000000000000.png")
    found = tiny.tiny_predictor()(photos / "000000000000.png")
    np.testing.assert_array_equal(drawn, found.draw(read_image(photos / "000000000000.png")))


def test_the_order_of_the_rows_is_the_order_of_the_paths(photos, tmp_path):
    paths = files(photos)[::-1]
    predict(paths, results=tmp_path / "rows.json", threads=4)
    rows = json.loads((tmp_path / "rows.json").read_text())
    order = [name for name, _ in itertools.groupby(row["file_name"] for row in rows)]
    assert order == [path.as_posix() for path in paths]


def test_coco_tools_read_the_rows(photos, tmp_path):
    predict(files(photos)[:3], results=tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    truth = {
        "info": {},
        "images": [{"id": number * 7, "width": 1, "height": 1} for number in range(12)],
        "categories": [{"id": number, "name": str(number)} for number in range(1, 91)],
        "annotations": [],
    }
    write_json(tmp_path / "truth.json", truth)
    with redirect_stdout(StringIO()):
        loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "rows.json"))
    assert len(loaded.anns) == len(rows)
    assert set(loaded.getImgIds(imgIds=[0, 7, 14])) == {row["image_id"] for row in rows}
    for annotation, row in zip(loaded.anns.values(), rows):
        assert annotation["bbox"] == coco_mask.toBbox(row["segmentation"]).tolist()


def test_polygons_come_on_demand(photos, tmp_path):
    predict(files(photos)[:2], results=tmp_path / "plain.json")
    predict(files(photos)[:2], results=tmp_path / "outlines.json", polygons=True)
    plain, outlines = (json.loads((tmp_path / name).read_text()) for name in ("plain.json", "outlines.json"))
    assert all(len(polygon) % 2 == 0 for row in outlines for polygon in row["polygons"])
    assert [{key: row[key] for key in row if key != "polygons"} for row in outlines] == plain


@pytest.mark.parametrize("batch_size", [1, 3])
def test_threads_change_nothing_in_the_results(photos, tmp_path, batch_size):
    overrides = [*tiny.OVERRIDES, f"test_cfg.batch_size={batch_size}"]
    predictor = tiny.predictor(tiny.CONFIG, untrained=0, overrides=overrides)
    contents = set()
    for threads in (0, 1, 4):
        predict(files(photos)[:7], predictor=predictor, results=tmp_path / "rows.json", polygons=True, threads=threads)
        contents.add((tmp_path / "rows.json").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_unreadable_pictures_are_named_counted_and_left_out(photos, tmp_path, capsys, batch_size):
    good = files(photos)[:4]
    cut_off = tmp_path / "cut.png"
    cut_off.write_bytes(good[0].read_bytes()[:-100])
    paths = [tmp_path / "none.jpg", good[0], good[1], cut_off, good[2], good[3], tmp_path]
    overrides = [*tiny.OVERRIDES, f"test_cfg.batch_size={batch_size}"]
    predictor = tiny.predictor(tiny.CONFIG, untrained=0, overrides=overrides)
    report = predict(paths, predictor=predictor, drawings=tmp_path / "drawn", results=tmp_path / "rows.json")
    assert (report.pictures, len(report.problems)) == (4, 3)
    assert [problem.partition(": ")[0] for problem in report.problems] == [str(paths[i]) for i in (0, 3, 6)]
    assert [path.name for path in files(tmp_path / "drawn")] == [path.name for path in good]
    told = "".join(capsys.readouterr()).splitlines()
    assert sum(str(cut_off) in line for line in told) == 1
    assert report.statistics()["skipped"] == 3


@pytest.mark.parametrize(("threads", "batch_size"), [(0, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize(
    ("place", "is_large", "error"),
    [
        ((Predictor, "prepare"), lambda self, image: image.shape[1] == 200, MemoryError("first\nsecond")),
        ((DynamicEngine, "__call__"), lambda self, images, sizes: min(sizes)[0] < 40, RuntimeError("std::bad_alloc")),
        (
            (Predictor, "decode"),
            lambda self, *args: args[2].original[1] == 200,
            cv2.error("Failed to allocate 8 bytes"),
        ),
        ((Instances, "to_coco"), lambda self, *_, **__: self.size[1] == 200, MemoryError()),
        ((Instances, "draw"), lambda self, image: self.size[1] == 200, MemoryError()),
    ],
    ids=["prepare", "network", "decode", "encode", "draw"],
)
def test_a_picture_larger_than_the_memory_is_skipped(
    photos, tmp_path, monkeypatch, capsys, place, is_large, error, threads, batch_size
):
    large = tmp_path / "large.png"
    write_image(large, tiny.scene(0, 64, 200))
    original, small = getattr(*place), files(photos)[:4]

    def fail_if_large(*args, **kwargs):
        if is_large(*args, **kwargs):
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(*place, fail_if_large)
    overrides = [*tiny.OVERRIDES, f"test_cfg.batch_size={batch_size}"]
    report = predict(
        [*small[:1], large, *small[1:]],
        predictor=tiny.predictor(tiny.CONFIG, untrained=0, overrides=overrides),
        drawings=tmp_path / "drawn",
        results=tmp_path / "rows.json",
        threads=threads,
    )
    assert (report.pictures, len(report.problems)) == (4, 1)
    assert [path.name for path in files(tmp_path / "drawn")] == [path.name for path in small]
    assert str(large) not in (tmp_path / "rows.json").read_text()
    printed = capsys.readouterr()
    skipped = printed.err.splitlines()
    assert printed.out == "1 pictures were skipped, see above\n"
    assert len(skipped) == 1 and skipped[0].startswith(f"skipped {large}: too large for the free memory")


@pytest.mark.parametrize("drawn", [True, False])
def test_nothing_readable_is_a_mistake_that_leaves_what_was_there(tmp_path, capsys, drawn):
    for name, other in (("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")):
        (tmp_path / name).symlink_to(other)
    (tmp_path / "rows.json").write_text("old")
    drawings = tmp_path / "drawn" if drawn else None
    with pytest.raises(InputError, match="none of 2 pictures"):
        predict([tmp_path / "a.jpg", tmp_path / "b.jpg"], drawings=drawings, results=tmp_path / "rows.json")
    assert capsys.readouterr().err.count("skipped ") == 2
    assert (tmp_path / "rows.json").read_text() == "old"


def test_the_line_of_a_skipped_picture_has_no_control_characters(tmp_path, capsys):
    with pytest.raises(InputError, match="none of 1 pictures"):
        predict([tmp_path / "\x1b[2Ja\nb.jpg"])
    assert capsys.readouterr().err == f"skipped {tmp_path}/\\x1b[2Ja b.jpg: no such file or folder\n"


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("stage", ["preprocess", "network", "decode", "draw", "write", "rows"])
def test_an_error_in_any_stage_ends_the_run_with_it(photos, tmp_path, monkeypatch, stage, threads):
    places = {
        "preprocess": (Predictor, "prepare"),
        "network": (DynamicEngine, "__call__"),
        "decode": (Predictor, "decode"),
        "draw": (Instances, "draw"),
        "write": ("tools.predict.picture_files.write_drawing",),
        "rows": (Instances, "to_coco"),
    }
    calls = itertools.count()
    place = places[stage]
    original = write_drawing if stage == "write" else getattr(*place)

    def fails_later(*args, **kwargs):
        if next(calls) == 4:
            raise RuntimeError(f"broken {stage}")
        return original(*args, **kwargs)

    before = tiny.pool_threads()
    monkeypatch.setattr(*place, fails_later)
    with pytest.raises(RuntimeError, match=f"broken {stage}"):
        predict(files(photos) * 4, drawings=tmp_path / "drawn", results=tmp_path / "rows.json", threads=threads)
    assert tiny.pool_threads() <= before
    if (tmp_path / "rows.json").exists():  # with the pictures before the error
        assert len({row["image_id"] for row in json.loads((tmp_path / "rows.json").read_text())}) <= 4
    assert next(calls) < 4 * 12 - 10, "the rest is dropped"
    assert not list(tmp_path.glob("drawn/.[0-9]*"))


def test_ctrl_c_ends_the_first_run_of_the_network_too(photos, monkeypatch):
    """A damaged or hostile graph may not end."""
    inside = []

    @contextmanager
    def watch(**_: object) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr("tools.predict.pipeline.exit_on_ctrl_c", watch)
    monkeypatch.setattr(Predictor, "warm_up", lambda predictor: inside.append(inside[-1]))
    predict_files(tiny.tiny_predictor(), plan_jobs(files(photos)[:1]), threads=0)
    assert inside == [True]


def test_not_more_than_a_few_pictures_are_read_ahead(photos, monkeypatch):
    paths = files(photos) * 4
    read, finished, ahead = itertools.count(1), [0], []

    def reading(path, stretch):
        ahead.append(next(read) - finished[0])
        return read_image(path, stretch)

    original = Predictor.decode

    def finishing(self, *args):
        result = original(self, *args)
        finished[0] += 1
        return result

    monkeypatch.setattr("tools.predict.pipeline.read_image", reading)
    monkeypatch.setattr(Predictor, "decode", finishing)
    predict(paths, threads=2)
    assert max(ahead) <= 3 * 2 + 2


def test_the_first_of_several_pages_is_used_and_said_once(tmp_path, capsys):
    pages = [Image.fromarray(tiny.scene(number)) for number in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    paths = [tmp_path / name for name in ("stack.tif", "one.tif", "gone.tif")]
    predict(paths, results=tmp_path / "rows.json")
    first, second = (
        line for line in capsys.readouterr().err.splitlines() if line.startswith(("skipped", str(tmp_path)))
    )
    assert first == f"{paths[0]}: the first of 3 pages is used; save the others as files of their own"
    assert second == f"skipped {paths[2]}: no such file or folder"
    found = tiny.tiny_predictor()(tiny.scene(0))
    assert [row["segmentation"] for row in json.loads((tmp_path / "rows.json").read_text())] == found.to_rle() * 2


def test_drawings_do_not_replace_pictures(photos, tmp_path):
    picture = tmp_path / "a.png"
    write_image(picture, tiny.scene(0))
    (tmp_path / "link").symlink_to(tmp_path)
    before = picture.read_bytes()
    for folder in (tmp_path, tmp_path / "." / "x" / "..", tmp_path / "link"):
        with pytest.raises(InputError, match="--output"):
            predict([files(photos)[0], picture], drawings=folder)
    assert picture.read_bytes() == before
    assert not (tmp_path / files(photos)[0].name).exists(), "refused before anything was written"


def test_pictures_of_the_same_name_do_not_share_a_drawing(tmp_path):
    source = tmp_path / "source"
    names = ["a.png", "a.bmp", "sub/a.png", "a_2.png", "sub/a.bmp", "a.gif", "other/a.png"]
    for seed, name in enumerate(names):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(cv2.imencode(".png", tiny.scene(seed))[1].tobytes())
    report = predict([source / name for name in names], drawings=tmp_path / "drawn")
    assert report.pictures == len(names)
    assert len(files(tmp_path / "drawn")) == len(names)


def test_a_numbered_output_has_the_name_of_no_other_picture_and_is_printed(capsys):
    paths = [Path(name) for name in ("one/a.jpg", "one/a.png", "two/a.png", "two/a_2.jpg")]
    jobs = plan_jobs(paths, [picture_files.label_maps(Path("maps"))])
    assert [job.targets[0].name for job in jobs] == ["a.png", "a_3.png", "a_4.png", "a_2.png"]
    expected = (
        "--label-masks: pictures of one name have outputs with numbers: a_3.png of one/a.png, a_4.png of two/a.png"
    )
    assert capsys.readouterr().err == f"{expected}\n"


def test_outputs_of_an_earlier_run_among_the_pictures_are_named(tmp_path, capsys):
    """A folder of generated pictures, all of which are listed, is meant."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(cv2.imencode(".png", tiny.scene(0))[1].tobytes())
    predict([photo], drawings=tmp_path / "drawn")
    (drawing,) = files(tmp_path / "drawn")
    capsys.readouterr()
    plan_jobs([photo, drawing])
    says = f"1 of 2 pictures are outputs of earlier runs, such as drawings or label maps: {drawing}; move them"
    assert says in capsys.readouterr().err
    plan_jobs([drawing])
    write_image(drawing, tiny.scene(1)[:50])  # the user's own picture now
    plan_jobs([photo, drawing])
    assert capsys.readouterr().err == ""


def test_many_pictures_of_one_name_are_planned_in_linear_time(monkeypatch):
    looked_up = []
    monkeypatch.setattr("tools.predict.picture_files.realpath", lambda path: looked_up.append(path) or str(path))
    jobs = plan_jobs([Path(f"{folder}/a.png") for folder in range(100)], [picture_files.drawings(Path("drawn"))])
    assert [job.targets[0].name for job in jobs] == ["a.png", *(f"a_{count}.png" for count in range(2, 101))]
    assert len(looked_up) < 100 * 8


@pytest.mark.parametrize(
    "names",
    [["a.png", "1.png"], ["1.png", "01.png"], ["7.png", "7.bmp", "x/7.png"], ["2.png", "a.png", "b.png"]],
    ids=" ".join,
)
def test_every_picture_has_an_image_id_of_its_own(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, tiny.scene(3))
    predict([tmp_path / name for name in names], results=tmp_path / "rows.json")
    assert len({row["image_id"] for row in json.loads((tmp_path / "rows.json").read_text())}) == len(names)


def test_a_full_disk_is_noticed_for_small_drawings_too(monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("data.images.atomic_write", lambda path: nullcontext(Path("/dev/full")))
    with pytest.raises(OSError, match="No space left"):
        write_image(Path("a.png"), np.zeros((4, 4, 3), np.uint8))


def test_the_stages_are_timed_for_every_picture_that_was_read(photos, tmp_path):
    paths = [*files(photos)[:5], tmp_path / "none.jpg"]
    report = predict(paths, drawings=tmp_path / "drawn", results=tmp_path / "rows.json")
    statistics = report.statistics()
    assert list(statistics["milliseconds"])[:7] == [
        "read",
        "preprocess",
        "network",
        "decode",
        "encode",
        "draw",
        "write",
    ]
    assert {len(values) for stage, values in report.times._milliseconds.items() if stage != "results"} == {5}
    assert statistics["pictures_per_second"] == pytest.approx(5 / report.seconds)
    json.dumps(statistics)


def test_no_drawing_and_no_rows_leave_no_trace(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = predict(files(photos)[:2])
    assert report.pictures == 2
    assert "draw" not in report.statistics()["milliseconds"]
    assert list(tmp_path.iterdir()) == []
