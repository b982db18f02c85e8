"""Types of config fields that contain a rule for their values: `batch_size: PositiveInt = 2`.

A rule is a list of choices, `Literal`, or a `Rule` that `Annotated` adds to a type. config/checks.py applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

LONGEST_SIDE = 2**15  # pixels of a picture or of the network's input


@dataclass(frozen=True)
class Rule:
    """A condition on the value of a field."""

    accepts: Callable[[Any], bool]
    expected: str  # the accepted values in words, for the message "nms.sigma=0.0: expected a number above 0"


def rule_of(annotation: Any) -> Rule | None:
    """Return the rule that the type of a field contains, None if it has none.

    The rule of X in `tuple[X, ...]` is for each item.
    """
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return Rule(lambda value: value in choices, " or ".join(map(str, choices)))
    if get_origin(annotation) is tuple:
        item = rule_of(get_args(annotation)[0])
        return item and Rule(lambda values: all(map(item.accepts, values)), f"each item to be {item.expected}")
    return next((extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Rule)), None)


def one_of(choices: Collection[str]) -> Rule:
    return Rule(lambda value: value in choices, " or ".join(choices))


def at_least(minimum: int) -> Rule:
    return Rule(lambda value: value >= minimum, f"{minimum} or more")


def side_from(minimum: int) -> Rule:
    return Rule(lambda value: minimum <= value <= LONGEST_SIDE, f"a whole number from {minimum} to {LONGEST_SIDE}")


def per_stage(minimum: int) -> Rule:
    """Return the rule for a tuple with one number for each of the backbone's four stages."""
    expected = f"4 numbers, one for each stage, none below {minimum}"
    return Rule(lambda values: len(values) == 4 and min(values) >= minimum, expected)


PositiveInt = Annotated[int, at_least(1)]
NonNegativeInt = Annotated[int, at_least(0)]
EvenInt = Annotated[int, Rule(lambda value: value >= 2 and value % 2 == 0, "an even number, 2 or more")]
Side = Annotated[int, side_from(1)]
_MULTIPLES = f"a multiple of 32, 32 to {LONGEST_SIDE}"
MultipleOf32 = Annotated[int, Rule(lambda value: 32 <= value <= LONGEST_SIDE and value % 32 == 0, _MULTIPLES)]
Seed = Annotated[int, Rule(lambda value: 0 <= value < 2**32, "a whole number from 0 to 2**32 - 1")]

PositiveFloat = Annotated[float, Rule(lambda value: value > 0, "a number above 0")]
NonNegativeFloat = Annotated[float, at_least(0)]
Fraction = Annotated[float, Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1")]
FractionBelow1 = Annotated[float, Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")]
OpenFraction = Annotated[float, Rule(lambda value: 0 < value < 1, "a number above 0 and below 1")]

Ints = tuple[int, ...]
Floats = tuple[float, ...]

_GRIDS = "1 to 5 whole numbers, one for each level from P2 on, none below 1"
GridSizes = Annotated[Ints, Rule(lambda sizes: 1 <= len(sizes) <= 5 and min(sizes) >= 1, _GRIDS)]
StageChannels = Annotated[Ints, per_stage(minimum=1)]
StageFactors = Annotated[Floats, per_stage(minimum=0)]
_SIZE = f"a height and a width of at most {LONGEST_SIDE}, or () for none"
OptionalSize = Annotated[Ints, Rule(lambda size: len(size) in (0, 2) and max(size, default=0) <= LONGEST_SIDE, _SIZE)]

_STRETCH = "a low and a high percentile from 0 to 100, a gamma above 0 and maybe a least range, or () for none"
STRETCH = Rule(lambda values: not values or _is_stretch(values), _STRETCH)
OptionalStretch = Annotated[Floats, STRETCH]


def _is_stretch(values: Floats) -> bool:
    low, high, gamma, least_range = (*values, 0.0)[:4] if len(values) in (3, 4) else (0.0,) * 4
    return 0 <= low < high <= 100 and gamma > 0 and least_range >= 0


_COLOURS = "one for each colour"
_LARGEST = 1e6  # of means and deviations; the network's input, float32, must stay finite
Colour = Annotated[
    Floats,
    Rule(lambda values: len(values) == 3 and max(map(abs, values)) <= _LARGEST, f"3 numbers up to 1e6, {_COLOURS}"),
]
PositiveColour = Annotated[
    Floats,
    Rule(
        lambda values: len(values) == 3 and min(values) >= 1 / _LARGEST and max(values) <= _LARGEST,
        f"3 numbers from 1e-6 to 1e6, {_COLOURS}",
    ),
]

_PAIRS = "pairs of a lower and an upper end"
LevelRanges = Annotated[Floats, Rule(lambda ends: all(low <= high for low, high in zip(ends[::2], ends[1::2])), _PAIRS)]
_RANGE = "two numbers above 0 and up to 1, the smaller first"
FractionRange = Annotated[Floats, Rule(lambda ends: len(ends) == 2 and 0 < ends[0] <= ends[1] <= 1, _RANGE)]
