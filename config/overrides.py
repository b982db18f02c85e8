"""`-o section.field=value`: change single fields of a config from the command line, with a type check."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from config.base import Config, known_fields, with_field
from config.checks import check
from config.errors import InputError
from config.values import did_you_mean, type_words, typed


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
    return check(config)


def differences(config: Config) -> tuple[str, ...]:
    """Assignments that turn the config as its file states it into this one, as far as a trained network depends on it.

    That is what it is made of, what pictures look like to it, and how its predictions become instances.
    """
    stated = known_fields(type(config)())
    return tuple(
        f"{path}={_text(value)}"
        for path, value in known_fields(config).items()
        if path.partition(".")[0] in _OF_THE_NETWORK and value != stated[path]
    )


_OF_THE_NETWORK = ("backbone", "neck", "mask_feat_head", "head", "roi", "nms", "data")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _assign(config: Config, path: str, text: str) -> Config:
    known = known_fields(config)
    if path not in known:
        hint = did_you_mean(path, known, otherwise=f"known are {', '.join(known)}")
        raise InputError(f"-o {path}={text}: there is no field {path} in config {config.name}; {hint}")
    # The base config's value tells the type, because an empty tuple does not.
    value = _parse(text, like=known_fields(Config)[path], present=known[path], assignment=f"{path}={text}")
    return with_field(config, path, value)


def _parse(text: str, *, like: object, present: object, assignment: str) -> object:
    if isinstance(like, str):
        return text
    if isinstance(like, tuple) and all(isinstance(item, str) for item in like) and like:
        return tuple(word.strip() for word in text.split(",") if word.strip())
    try:
        return typed(ast.literal_eval(_BOOLEANS.get(text.lower(), text)), like=like)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two for thousands of brackets
        expected = type_words(like)
        raise InputError(f"-o {assignment}: expected {expected}, as in the present value {present}") from None


_BOOLEANS = {"true": "True", "false": "False"}
