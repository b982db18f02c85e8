"""Change fields of a config from the command line: `-o section.field=value`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace

from config.base import Config, known_fields, with_field
from config.checks import check, example_values
from config.errors import InputError
from config.values import as_type_of, describe_type, did_you_mean


def override(config: Config, assignments: Iterable[str]) -> Config:
    """Return the config after assignments such as `nms.score_thr=0.2` or `demo_input=photos`, in this order.

    A value has the type of its field: text without quotes, a number, `true` or `false`, or a tuple such as `1,2,3`.
    Raises InputError for an unknown name (with a similar one), for a value of another type or against a rule.
    """
    return check(_assign_all(config, assignments))


def differences(config: Config, base: Config | None = None) -> tuple[str, ...]:
    """Return the assignments by which this config differs from `base`, in fields that belong to a trained network.

    They describe the network, its input and the decoding of its predictions. base: default the config's file.
    """
    in_file = known_fields(base or type(config)())
    return tuple(
        f"{path}={_text(value)}"
        for path, value in known_fields(config).items()
        if _is_of_network(path) and value != in_file[path]
    )


def with_network(config: Config, assignments: Iterable[str]) -> Config:
    """Return the config with the network that `differences` describes by its differences from `Config()`.

    Raises InputError as `override` does.
    """
    defaults = {section: getattr(Config, section) for section in _NETWORK_SECTIONS}
    config = with_field(config.replace(**defaults), SCORE, Config.test_cfg.score)
    return override_trained(config, assignments)


def override_trained(config: Config, assignments: Iterable[str]) -> Config:
    """Return the config as `override` does, for the network of a file, which is not trained any further."""
    config = _assign_all(config, assignments)
    if len(config.target.scale_ranges) != 2 * config.head.levels:  # of another network
        config = config.replace(target=replace(config.target, scale_ranges=(0.0, 1.0) * config.head.levels))
    return check(config)


def foreign_to_networks(assignments: Iterable[str]) -> list[str]:
    """Return the assignments of other fields, such as paths: files of networks must not have them."""
    return [text for text in assignments if not _is_of_network(text.partition("=")[0].strip())]


def training_settings(config: Config) -> dict[str, str]:
    """Return the fields that decide what a step of a training does, with their values as text.

    Paths of data are not among them: a training compares the pictures themselves.
    """
    return {
        path: _text(value)
        for path, value in known_fields(config).items()
        if path.partition(".")[0] in (*_NETWORK_SECTIONS, *_TRAINING_SECTIONS) and path not in _WITHOUT_EFFECT
    }


_NETWORK_SECTIONS = ("backbone", "neck", "mask_feat_head", "head", "roi", "nms", "data")
_TRAINING_SECTIONS = ("target", "loss", "augment", "train_cfg")
# The first steps are behind a saved run, the pictures of a step are shared by as many processes as there are cores, and
# the other fields change only speed and files.
_WITHOUT_EFFECT = tuple(
    f"train_cfg.{name}"
    for name in (
        *("model_path", "batch_size", "processes", "workers"),
        *("log_every", "save_every", "keep", "eval_every", "patience"),
    )
)
SCORE = "test_cfg.score"  # may be chosen for the weights, by their match score


def _is_of_network(path: str) -> bool:
    return path == SCORE or path.partition(".")[0] in _NETWORK_SECTIONS


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _assign_all(config: Config, assignments: Iterable[str]) -> Config:
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"-o {assignment}: expected section.field=value, for example -o nms.score_thr=0.2")
        config = _assign(config, path.strip(), text.strip())
    return config


def _assign(config: Config, path: str, text: str) -> Config:
    known = known_fields(config)
    if path not in known:
        hint = did_you_mean(_RENAMED.get(path, path), known, otherwise=f"the fields are {', '.join(known)}")
        raise InputError(f"-o {path}={text}: there is no field {path} in config {config.name}; {hint}")
    value = _parse(text, example=example_values()[path], present=known[path], assignment=f"{path}={text}")
    return with_field(config, path, value)


# The present names of fields of earlier versions.
_RENAMED = {"eval_cfg.test_dev_path": "test_path", "eval_cfg.test_dev_pre_path": "test_pre_path"}


def _parse(text: str, *, example: object, present: object, assignment: str) -> object:
    if isinstance(example, str):
        return text
    if isinstance(example, tuple) and example and isinstance(example[0], str):
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if isinstance(example, tuple) and not text:
        return ()
    try:
        return as_type_of(example, ast.literal_eval(_BOOLEANS.get(text.lower(), text)))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two: thousands of brackets
        expected = describe_type(example)
        raise InputError(f"-o {assignment}: expected {expected}; the present value is {present}") from None


_BOOLEANS = {"true": "True", "false": "False"}
