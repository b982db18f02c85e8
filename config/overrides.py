"""`-o section.field=value`: change single fields of a config from the command line, with a type check."""

from __future__ import annotations

import ast
import dataclasses
import difflib
from collections.abc import Iterable

from config.base import Config
from config.checks import check
from config.errors import InputError

PLAIN_FIELDS = (
    "train_path",
    "val_path",
    "classes_path",
    "train_pre_path",
    "val_pre_path",
    "test_path",
    "test_pre_path",
)


def override(config: Config, assignments: Iterable[str]) -> Config:
    """Apply assignments such as `nms.score_thr=0.2` or `test_path=photos` in order.

    A value has the type of the field it replaces: text as it stands, numbers, `true` or `false`, tuples as `1,2,3`.
    Raises InputError for an unknown name (with the nearest known one), for a value of another type or without sense.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"-o {assignment}: expected section.field=value, for example -o nms.score_thr=0.2")
        config = _assign(config, path.strip(), text.strip())
    check(config)
    return config


def _assign(config: Config, path: str, text: str) -> Config:
    known = known_fields(config)
    if path not in known:
        near = difflib.get_close_matches(path, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise InputError(f"-o {path}={text}: there is no field {path} in config {config.name}; {hint}")
    # The base config's value tells the type, because an empty tuple does not.
    value = _parse(text, like=known_fields(Config)[path], present=known[path], assignment=f"{path}={text}")
    section, _, field = path.rpartition(".")
    if not section:
        return config.replace(**{field: value})
    return config.replace(**{section: dataclasses.replace(getattr(config, section), **{field: value})})


def known_fields(config: Config | type[Config]) -> dict[str, object]:
    """Every name that can be overridden with its present value, or for the class itself with its default."""
    fields = {name: getattr(config, name) for name in PLAIN_FIELDS}
    for section in sections(config):
        values = dataclasses.asdict(getattr(config, section))
        fields.update({f"{section}.{name}": value for name, value in values.items()})
    return fields


def sections(config: Config | type[Config]) -> list[str]:
    return [name for name in vars(Config) if dataclasses.is_dataclass(getattr(config, name))]


def _parse(text: str, *, like: object, present: object, assignment: str) -> object:
    if isinstance(like, str):
        return text
    if isinstance(like, tuple) and all(isinstance(item, str) for item in like) and like:
        return tuple(word.strip() for word in text.split(",") if word.strip())
    wanted = "a list of numbers such as 1,2,3" if isinstance(like, tuple) else _TYPE_WORDS[type(like)]
    try:
        value = ast.literal_eval(_BOOLEANS.get(text.lower(), text))
        return _convert(value, like)
    except (ValueError, SyntaxError, TypeError):
        raise InputError(f"-o {assignment}: expected {wanted}, as in the present value {present}") from None


_BOOLEANS = {"true": "True", "false": "False"}
_TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _convert(value: object, like: object) -> object:
    if isinstance(like, tuple):
        items = value if isinstance(value, (tuple, list)) else (value,)
        sample = like[0] if like else 0
        return tuple(_convert(item, sample) for item in items)
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if type(value) is not type(like):
        raise TypeError
    return value
