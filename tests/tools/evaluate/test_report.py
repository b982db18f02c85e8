"""The evaluation report: its plots by their pixels, its page by links and text."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import InputError
from data.images import read_image
from tests.support.coco_results import truth_of
from tools.common.plots import BLUE, GRID, LINE_COLORS, SCALE, bars, heat_map, line_plot, shorten, text_width
from tools.evaluate.coco_metrics import compare_instances, evaluate_coco
from tools.evaluate.report import LONGEST_SIDE, write_report
from tools.evaluate.report_plots import confusion_plot, precision_recall_plot, quality_plot
from tools.predict.instances import Instances

SIDE = 64
NAMES = ("<b>cat</b> & \"dog\" 'x'", "Käse 猫")


def is_color(picture: np.ndarray, color: tuple) -> np.ndarray:
    """Return bool [H, W], true where a picture has nearly this colour."""
    return (np.abs(picture.astype(int) - color) < 12).all(axis=2)


def columns_of(picture: np.ndarray, color: tuple) -> np.ndarray:
    """Return the columns that have this colour below the legend, which takes the upper 25 rows."""
    return np.flatnonzero(is_color(picture[35 * SCALE :], color).any(axis=0))


def test_a_curve_is_drawn_at_its_values():
    picture = line_plot({"loss": ([0, 1, 2], [0, 1, 0])}, size=(300, 400), y_range=(0, 1))
    assert (picture.shape, picture.dtype) == ((300 * SCALE, 400 * SCALE, 3), np.uint8)
    rows, columns = np.nonzero(is_color(picture[35 * SCALE :], LINE_COLORS[0]))
    top, middle = columns[rows == rows.min()].mean(), (columns.min() + columns.max()) / 2
    assert abs(top - middle) < 4
    assert rows.max() - rows.min() > 200 * SCALE


def test_a_curve_is_interrupted_at_nan():
    whole = columns_of(line_plot({"loss": (range(9), [1] * 9)}), LINE_COLORS[0])
    assert np.diff(whole).max() == 1
    gap = columns_of(line_plot({"loss": (range(9), [1, 1, 1, np.nan, np.inf, 1, 1, 1, 1])}), LINE_COLORS[0])
    assert (np.diff(gap) > 1).sum() == 1
    assert np.diff(gap).max() == pytest.approx(3 / 8 * np.ptp(whole), rel=0.05)


def test_a_point_alone_is_a_dot():
    dot = columns_of(line_plot({"loss": ([7], [1e-5])}), LINE_COLORS[0])
    assert 4 * SCALE < np.ptp(dot) < 8 * SCALE
    beside = columns_of(line_plot({"loss": ([0, 1, 2], [np.nan, 3, np.nan])}), LINE_COLORS[0])
    assert len(beside) == len(dot)


def test_what_lies_outside_of_the_range_is_cut_off():
    inside = line_plot({"loss": ([0, 1], [0, 1])}, y_range=(0, 1), x_range=(0, 1))
    beyond = line_plot({"loss": ([0, 1, 50], [0, 1, 50])}, y_range=(0, 1), x_range=(0, 1))
    rim = 30 * SCALE
    assert np.array_equal(inside[:, -8 * SCALE :], beyond[:, -8 * SCALE :])
    assert np.abs(inside[rim:].astype(int) - beyond[rim:]).mean() < 0.5


numbers = st.one_of(st.floats(allow_subnormal=False), st.floats(-10, 10), st.integers(0, 10**6))


@settings(max_examples=25)
@given(
    st.dictionaries(st.text(max_size=30), st.lists(st.tuples(numbers, numbers), max_size=12), max_size=12),
    st.text(max_size=90),
)
def test_any_values_and_names_can_be_drawn(series, text):
    curves = {name: tuple(zip(*points)) or ((), ()) for name, points in series.items()}
    picture = line_plot(curves, title=text, x_label=text[:40], y_label=text[:20], size=(340, 320))
    assert picture.shape == (340 * SCALE, 320 * SCALE, 3)


def test_the_cells_of_a_heat_map():
    picture = heat_map(np.array([[0, 400], [100, 0]]), ["a", "b"], ["c", "d"], title="title", y_label="true")
    side = 36 * SCALE
    middle = (np.array(BLUE) + 255) / 2  # the shade of a quarter, by its root
    places = {}
    for name, color in (("deep", BLUE), ("pale", middle)):
        cell = is_color(picture, color)
        rows, columns = (np.flatnonzero(cell.sum(axis=axis) > side // 3) for axis in (1, 0))
        assert len(rows) == len(columns) == side - 1
        places[name] = rows[0], columns[0]
    # 400 stands above 100 and to its right.
    assert places["deep"] == (places["pale"][0] - side, places["pale"][1] + side)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_heat_map_of_any_size(count):
    picture = heat_map(np.eye(count) * 12345, ["name"] * count, ["name"] * count)
    assert min(picture.shape[:2]) >= count * 14 * SCALE
    assert is_color(picture, GRID).any() == (count > 0)


def test_bars_are_as_long_as_their_values():
    picture = bars(["a", "b", "c"], [10, 5, 0], title="title", x_label="pictures")
    lengths = np.unique(is_color(picture, BLUE).sum(axis=1))
    assert lengths == pytest.approx([0, lengths[-1] / 2, lengths[-1]], abs=1)
    assert is_color(bars(["a"], [0]), BLUE).sum() == 0


def test_long_names_are_shortened():
    assert shorten("cat", 100) == "cat"
    short = shorten("a very long name of a class", 100)
    assert short.endswith("...")
    assert 60 < text_width(short) <= 100
    assert shorten("a very long name of a class " * 10_000, 100) == short  # at once, although it has 280,000 letters


def rectangle(category_id: int, box: tuple, image_id: int = 1, **others) -> dict:
    x, y, width, height = box
    mask = np.zeros((1, SIDE, SIDE), np.uint8)
    mask[0, y : y + height, x : x + width] = 1
    (rle,) = Instances.from_masks(mask, [1], [0], ("",), (0,)).to_rle()
    return {"image_id": image_id, "category_id": category_id, "bbox": list(box), "segmentation": rle, **others}


def evaluation_of(rows: list, annotations: list, names: tuple = NAMES):
    truth = truth_of(
        {
            "images": [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in (1, 2)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
            "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations)],
        }
    )
    return {
        "evaluation": evaluate_coco(truth, rows, truth.image_ids),
        "comparison": compare_instances(truth, rows, truth.image_ids),
    }


def load(image_id: int, score: float) -> tuple:
    """Return a grey picture with one instance of score 0.9, one of score 0.3 and an annotation."""
    masks = np.zeros((2, SIDE, SIDE), bool)
    masks[0, 5:25, 5:25] = masks[1, 30:50, 30:50] = True
    found = Instances.from_masks(masks, [0.9, 0.3], [0, 1], NAMES, (0, 1))
    return np.full((SIDE, SIDE, 3), 128, np.uint8), found.select(found.scores >= score), found.select([0])


FOUND = rectangle(0, (5, 5, 20, 20), score=0.9)
MISSED = rectangle(1, (30, 30, 20, 20), image_id=2)
TITLE = "a <run> & 'more'"
FILE_NAMES = {1: "right.jpg", 2: "ordner/<b>ü</b> & 'x' \"猫\" #2?.jpg"}


class Page(HTMLParser):
    """The text, the links and the open tags of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.tags, self.links, self.open = "", [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(folder, rows, annotations, **options) -> Page:
    options = {"load": load, "title": TITLE, "file_names": FILE_NAMES, **evaluation_of(rows, annotations), **options}
    path = write_report(folder, **options)
    assert path == folder / "index.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_and_its_pictures(tmp_path):
    page = report(tmp_path / "new" / "report", [FOUND], [rectangle(0, (5, 5, 20, 20)), MISSED])
    assert not page.open
    assert {"script", "b"} & set(page.tags) == {"b"}
    assert page.tags.count("b") == 1  # of the file name: none comes out of the class's name
    assert len(page.links) == len(set(page.links)) == 4 + 2
    for link in page.links:
        assert (tmp_path / "new" / "report" / link).is_file()
    for text in (*NAMES, FILE_NAMES[2], TITLE, "F1 0.00, 0 found, 1 missed, 0 false, 0 with a wrong class"):
        assert text in page.text
    assert FILE_NAMES[1] not in page.text  # in which nothing is wrong
    assert "2 pictures, 2 objects. At score 0.5 and IoU 0.5: 1 found, 0 with a wrong class, 1 missed" in page.text
    assert page.text.index("Käse") < page.text.index("<b>cat</b>")  # the worst class first


def test_classes_without_objects_come_last(tmp_path):
    page = report(tmp_path, [FOUND], [rectangle(0, (5, 5, 20, 20))])
    assert page.text.index("<b>cat</b>") < page.text.index("Käse")
    assert "0n/a" in page.text
    assert "There is no mistake in any picture." in page.text
    assert len(page.links) == 4


def test_predictions_are_drawn_next_to_annotations(tmp_path):
    report(tmp_path, [], [MISSED])
    found, truth = (read_image(tmp_path / "pictures" / f"worst_001_{kind}.jpg") for kind in ("found", "annotated"))
    assert found.shape == truth.shape == (SIDE, SIDE, 3)
    for drawing in (found, truth):
        assert np.abs(drawing[24, 6:24].astype(int) - 128).max() > 40
    assert np.abs(found[42:48, 42:48].astype(int) - 128).max() < 20  # its score is below that of the comparison


def test_large_pictures_are_shrunk_and_only_the_worst_are_drawn(tmp_path):
    def load_large(image_id: int, score: float) -> tuple:
        size = (300, 2 * LONGEST_SIDE)
        none = Instances.from_masks(np.zeros((0, *size), bool), [], [], NAMES, (0, 1))
        return np.zeros((*size, 3), np.uint8), none, none

    page = report(tmp_path, [], [MISSED, rectangle(0, (5, 5, 20, 20))], load=load_large, worst=1)
    assert len(page.links) == 4 + 2
    assert read_image(tmp_path / "pictures" / "worst_001_found.jpg").shape == (150, LONGEST_SIDE, 3)


def test_no_page_is_left_where_a_picture_fails(tmp_path):
    def fail(image_id: int, score: float) -> tuple:
        raise InputError(f"{image_id}.jpg: no such file")

    with pytest.raises(InputError, match="2.jpg"):
        report(tmp_path, [], [MISSED], load=fail)
    assert not (tmp_path / "index.html").exists()


def test_plots_of_an_evaluation_without_objects():
    nothing = evaluation_of([], [])
    assert precision_recall_plot(nothing["evaluation"].mask, title="Masks").any()
    assert is_color(quality_plot(nothing["comparison"].pictures), BLUE).any()


def test_of_many_classes_those_with_the_most_mistakes_are_shown(monkeypatch):
    monkeypatch.setattr("tools.evaluate.report_plots.MAX_CLASSES", 5)
    many = evaluation_of([], [rectangle(8, (1, 1, 9, 9))], tuple(f"class {i}" for i in range(9)))
    picture = confusion_plot(many["comparison"])
    assert is_color(picture, BLUE).any()  # the missed object of class 8
    assert picture.shape[0] < 500 * SCALE
