"""Put the instances of overlapping tiles together, by their masks where tiles overlap.

A piece is an instance of a tile. It is cut if its mask comes close to a border of the tile inside the picture, and
complete otherwise.

- Complete pieces of two tiles with one mask, or with a class and a part of the mask in common, are one instance: the
  one with the higher score counts.
- A cut piece that complete pieces of another tile cover is a part of these.
- Cut pieces with one mask where their tiles overlap are parts of one instance.
- A cut piece that lies inside another tile, which finds nothing there, is dropped: that tile sees more of it.

An instance of a reduced picture counts if it is too large for a tile of the level before. It takes the place of the
pieces inside it that are cut or of its class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data.geometry import Window
from tools.predict.instances import Instances
from tools.predict.mask_windows import MaskCrop, Size
from tools.predict.packed_masks import PackedMask, pack_if_large
from tools.predict.reduced import resize_crop

SAME = 0.5  # IoU of two masks of one instance; share of a piece that others cover
SAME_CUT = 0.4  # IoU, where tiles overlap, of two parts of one instance: masks are worse near the borders of tiles
CONTAINED = 0.8  # share of the smaller of two parts that lies in the other
FINE = 0.8  # IoU from which on a joined mask is kept instead of the coarser one of a reduced picture
_MARGINS = 64  # a cut piece is closer to the border than the side of the tile divided by this


class Level(NamedTuple):
    """The instances of the tiles of a picture reduced by a factor. size: of the reduced picture; windows: within it."""

    factor: float
    size: Size
    tiles: list[tuple[Window, Instances]]


class _Piece(NamedTuple):
    """A mask at its place in the picture of a level; box: int y1, x1, y2, x2."""

    box: tuple[int, int, int, int]
    crop: np.ndarray | PackedMask
    score: float
    label: int
    is_cut: bool

    def part(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """Return the mask in a window inside its box, bool [h, w]."""
        top, left = self.box[:2]
        crop = self.crop.unpack() if isinstance(self.crop, PackedMask) else self.crop
        return crop[window[0] - top : window[2] - top, window[1] - left : window[3] - left]

    def whole(self) -> np.ndarray:
        return self.part(self.box)


def join_levels(size: Size, levels: Sequence[Level], *, overlap: float) -> Instances:
    """Return the instances of a picture of this size, highest score first.

    levels: the picture itself, then the reduced ones, in the order of their factors. overlap: pixels that neighbouring
    tiles have in common. Boxes are those of the masks.
    """
    pieces: list[_Piece] = []
    found_so_far = overlap  # size of the largest objects that are complete in a tile
    for level in levels:
        joined = _join_tiles(level)
        if level.factor > 1:
            large = (piece for piece in joined if _longest_side(piece) * level.factor > found_so_far)
            joined = _merge(pieces, [_enlarge(piece, level, size) for piece in large])
        pieces = joined
        found_so_far = overlap * level.factor
    pieces.sort(key=lambda piece: -piece.score)
    template = levels[0].tiles[0][1]
    return Instances.from_crops(
        size,
        [MaskCrop(piece.box[0], piece.box[1], piece.crop) for piece in pieces],
        np.array([piece.score for piece in pieces], np.float32),
        np.array([piece.label for piece in pieces], np.int64),
        template.class_names,
        template.category_ids,
        stretch=template.stretch,
    )


def _join_tiles(level: Level) -> list[_Piece]:
    """Return the pieces of all tiles of a level without duplicates, and with parts joined."""
    by_tile = [list(_pieces_of(window, instances, level.size)) for window, instances in level.tiles]
    firsts = np.cumsum([0, *map(len, by_tile)])
    pieces = [piece for of_tile in by_tile for piece in of_tile]
    dropped, same, parts = set(), [], []
    windows = np.array([window for window, _ in level.tiles])
    for first, second in _meeting_pairs(windows, windows):
        if first >= second:
            continue
        region = _intersection(windows[first], windows[second])
        inside = [_near(by_tile[tile], region) for tile in (first, second)]
        for tile, own, others in ((first, inside[0], inside[1]), (second, inside[1], inside[0])):
            dropped |= {firsts[tile] + i for i, piece in own if piece.is_cut and _is_covered(piece, others, region)}
        for (i, one_piece), (j, other_piece) in _meeting_pieces(*inside):
            pair = firsts[first] + i, firsts[second] + j
            if one_piece.is_cut and other_piece.is_cut:
                if _are_parts_of_one(one_piece, other_piece, region):
                    parts.append(pair)
            elif not (one_piece.is_cut or other_piece.is_cut) and _are_same(one_piece, other_piece):
                same.append(pair)
    dropped |= _lower_of_pairs(pieces, same)
    groups = _groups(len(pieces), [pair for pair in parts if not dropped & set(pair)])
    tile_of = np.repeat(np.arange(len(by_tile)), np.diff(firsts))
    joined = []
    for group in groups:
        if len(group) > 1:
            joined.append(_union([pieces[i] for i in group]))
        elif group[0] not in dropped and not (
            pieces[group[0]].is_cut and _is_inside_other(pieces[group[0]], tile_of[group[0]], windows, level.size)
        ):
            joined.append(pieces[group[0]])
    return joined


def _pieces_of(window: Window, instances: Instances, size: Size) -> Iterator[_Piece]:
    height, width = window.size
    margin = _margin(window)
    inner = _inner_borders(window, size)
    rows = zip(instances.boxes.tolist(), instances.crops, instances.scores.tolist(), instances.classes.tolist())
    for (x1, y1, x2, y2), crop, score, label in rows:
        if not crop.size:
            continue
        gaps = np.array([y1, x1, height - y2, width - x2])
        box = (window.top + y1, window.left + x1, window.top + y2, window.left + x2)
        yield _Piece(box, pack_if_large(crop), score, label, bool((inner & (gaps < margin)).any()))


def _margin(window: Window) -> float:
    return max(window.size) / _MARGINS


def _inner_borders(window: Sequence[int], size: Size) -> np.ndarray:
    """Return whether the top, left, bottom and right border of a tile are inside the picture: bool [4]."""
    top, left, bottom, right = window
    return np.array([top > 0, left > 0, bottom < size[0], right < size[1]])


def _is_inside_other(piece: _Piece, tile: int, windows: np.ndarray, size: Size) -> bool:
    """Return whether a tile other than the piece's own contains it, away from the borders that cut objects."""
    margins = np.array([1, 1, -1, -1]) * (windows[:, 2:] - windows[:, :2]).max(axis=1, keepdims=True) / _MARGINS
    inner = np.stack([_inner_borders(window, size) for window in windows])
    low_high = windows + margins * inner
    contains = (np.array(piece.box[:2]) >= low_high[:, :2]).all(axis=1)
    contains &= (np.array(piece.box[2:]) <= low_high[:, 2:]).all(axis=1)
    contains[tile] = False
    return bool(contains.any())


def _meeting_pairs(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the indices of pairs of boxes, y1, x1, y2, x2 in [n, 4] and [m, 4], that have pixels in common."""
    for i, box in enumerate(first):
        meets = (second[:, :2] < box[2:]).all(axis=1) & (second[:, 2:] > box[:2]).all(axis=1)
        for j in np.flatnonzero(meets).tolist():
            yield i, j


def _boxes(pieces: Iterable[_Piece]) -> np.ndarray:
    return np.array([piece.box for piece in pieces], np.int64).reshape(-1, 4)


def _near(pieces: Sequence[_Piece], region: tuple[int, ...]) -> list[tuple[int, _Piece]]:
    """Return the index and the piece of those whose boxes meet a region."""
    meeting = _meeting_pairs(np.array([region]), _boxes(pieces))
    return [(index, pieces[index]) for _, index in meeting]


def _meeting_pieces(
    first: list[tuple[int, _Piece]], second: list[tuple[int, _Piece]]
) -> Iterator[tuple[tuple[int, _Piece], tuple[int, _Piece]]]:
    for i, j in _meeting_pairs(*(_boxes(piece for _, piece in pieces) for pieces in (first, second))):
        yield first[i], second[j]


def _intersection(first: Sequence[int], second: Sequence[int]) -> tuple[int, int, int, int]:
    """Return the common part of two boxes; its ends may lie before its starts."""
    (a, b, c, d), (e, f, g, h) = first, second
    return max(a, e), max(b, f), min(c, g), min(d, h)


def _common_area(first: _Piece, second: _Piece, region: Sequence[int] | None = None) -> int:
    """Return the number of pixels that two masks have in common, in a region or anywhere."""
    box = _intersection(first.box, second.box)
    box = box if region is None else _intersection(box, region)
    if box[0] >= box[2] or box[1] >= box[3]:
        return 0
    return int(np.count_nonzero(first.part(box) & second.part(box)))


def _area_in(piece: _Piece, region: Sequence[int]) -> int:
    return _common_area(piece, piece, region)


def _iou(first: _Piece, second: _Piece) -> float:
    common = _common_area(first, second)
    return common / max(sum(np.count_nonzero(piece.whole()) for piece in (first, second)) - common, 1)


def _are_same(first: _Piece, second: _Piece) -> bool:
    """Return whether two complete pieces of two tiles are one instance: one mask, or a part of it in the same class."""
    smaller = min(np.count_nonzero(piece.whole()) for piece in (first, second))
    is_part = first.label == second.label and _common_area(first, second) >= SAME * smaller
    return is_part or _iou(first, second) >= SAME


def _are_parts_of_one(first: _Piece, second: _Piece, region: Sequence[int]) -> bool:
    """Return whether two cut pieces are parts of one instance, by their masks where their tiles overlap."""
    common = _common_area(first, second, region)
    areas = _area_in(first, region), _area_in(second, region)
    return common > 0 and (common >= SAME_CUT * (sum(areas) - common) or common >= CONTAINED * min(areas))


def _is_covered(piece: _Piece, others: Iterable[tuple[int, _Piece]], region: Sequence[int]) -> bool:
    """Return whether the complete ones of the others cover the piece, where its tile and theirs overlap."""
    box = _intersection(piece.box, region)
    if box[0] >= box[2] or box[1] >= box[3]:
        return False
    mask = piece.part(box)
    covered = np.zeros_like(mask)
    for _, other in others:
        common = _intersection(box, other.box)
        if not other.is_cut and common[0] < common[2] and common[1] < common[3]:
            rows, columns = (slice(common[axis] - box[axis], common[axis + 2] - box[axis]) for axis in (0, 1))
            covered[rows, columns] |= other.part(common)
    return np.count_nonzero(covered & mask) >= SAME * max(np.count_nonzero(mask), 1)


def _lower_of_pairs(pieces: Sequence[_Piece], pairs: Sequence[tuple[int, int]]) -> set[int]:
    """Return the pieces that have a pair with a kept one of a higher score."""
    partners = defaultdict(list)
    for i, j in pairs:
        partners[i].append(j)
        partners[j].append(i)
    dropped: set[int] = set()
    for i in sorted(partners, key=lambda i: -pieces[i].score):
        if i not in dropped:
            dropped.update(partners[i])
    return dropped


def _groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components of a graph with nodes 0 to count - 1 and these edges."""
    root = list(range(count))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    for i, j in pairs:
        root[find(i)] = find(j)
    groups = defaultdict(list)
    for i in range(count):
        groups[find(i)].append(i)
    return list(groups.values())


def _union(pieces: Sequence[_Piece]) -> _Piece:
    """Join parts to one piece: the score is their mean by area, the class the one with the largest area."""
    boxes = _boxes(pieces)
    top, left = boxes[:, :2].min(axis=0).tolist()
    bottom, right = boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((bottom - top, right - left), bool)
    areas = []
    for piece in pieces:
        y1, x1, y2, x2 = piece.box
        crop = piece.whole()
        mask[y1 - top : y2 - top, x1 - left : x2 - left] |= crop
        areas.append(np.count_nonzero(crop))
    by_class = np.bincount([piece.label for piece in pieces], areas)
    score = float(np.average([piece.score for piece in pieces], weights=areas))
    return _Piece((top, left, bottom, right), pack_if_large(mask), score, int(by_class.argmax()), True)


def _longest_side(piece: _Piece) -> int:
    y1, x1, y2, x2 = piece.box
    return max(y2 - y1, x2 - x1)


def _enlarge(piece: _Piece, level: Level, size: Size) -> _Piece:
    """Return a piece of a reduced picture in the picture itself."""
    y1, x1, y2, x2 = piece.box
    scales = [full / reduced for full, reduced in zip(size, level.size)]
    top, left, crop = resize_crop(piece.whole(), (x1, y1, x2, y2), scales, size)
    height, width = crop.shape
    return piece._replace(box=(top, left, top + height, left + width), crop=crop)


def _merge(fine: list[_Piece], coarse: Iterable[_Piece]) -> list[_Piece]:
    """Return the pieces of all levels before, and those of a reduced picture that add to them."""
    boxes = _boxes(fine)
    replaced: set[int] = set()
    added = []
    for piece in coarse:
        area = np.count_nonzero(piece.whole())
        near = [j for _, j in _meeting_pairs(np.array([piece.box]), boxes) if j not in replaced]
        if not area or any(_iou(piece, fine[j]) >= (FINE if fine[j].is_cut else SAME) for j in near):
            continue
        if _is_covered(piece, [(j, fine[j]) for j in near], piece.box):
            continue
        inside = {j for j in near if _common_area(piece, fine[j]) >= SAME * _area_in(fine[j], fine[j].box)}
        replaced |= {j for j in inside if fine[j].is_cut or fine[j].label == piece.label}
        added.append(piece)
    return [piece for j, piece in enumerate(fine) if j not in replaced] + added
