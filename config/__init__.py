"""The registry of configs: each model has a number, which never changes, and a name."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from config.base import Config, file_of
from config.checks import check
from config.errors import InputError, shorten
from config.overrides import override
from config.values import did_you_mean


@lru_cache(maxsize=1)
def registry() -> dict[int, type[Config]]:
    """Return all numbered configs by number, in ascending order. A config's name is the name of its file.

    Raises InputError for a file that cannot be imported, and for two configs with the same number or in one file, whose
    checkpoints would have one name.
    """
    configs: dict[int, type[Config]] = {}
    by_name: dict[str, type[Config]] = {}
    for config_class in _config_classes():
        number = vars(config_class).get("number")
        if number is None:
            continue
        other = configs.setdefault(number, config_class)
        if other is not config_class:
            files = f"{file_of(other)} and {file_of(config_class)}"
            raise InputError(f"{files} both have number = {number}; change one of them")
        if (other := by_name.setdefault(config_class.name, config_class)) is not config_class:
            classes = f"{other.__name__} and {config_class.__name__}"
            raise InputError(f"{file_of(other)}: both {classes} have a number; give each a file of its own")
    return dict(sorted(configs.items()))


@lru_cache(maxsize=1)
def _config_classes() -> tuple[type[Config], ...]:
    """Return the subclasses of Config in all files of this folder, including those without a number of their own."""
    modules = [_import(module_info.name) for module_info in pkgutil.iter_modules(__path__)]
    classes = [value for module in modules for value in vars(module).values() if _module_of(value) == module.__name__]
    return tuple(value for value in classes if issubclass(value, Config) and value is not Config)


def _module_of(value: object) -> str | None:
    """Return the name of the module that defines a class; None for a value that is not a class."""
    return value.__module__ if isinstance(value, type) else None


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"config.{name}")
    except InputError:
        raise
    except Exception as error:  # a user's file may raise anything
        raise InputError(f"{_place(error, name)}: {type(error).__name__}: {error}; correct this file") from error


def _place(error: Exception, name: str) -> str:
    """Return the file and line in this folder where an import of `name` failed: in that file or in one it imports."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno))
    lines = [(Path(file).stem, line) for file, line in lines if str(Path(file).parent) in __path__ and file != __file__]
    return "config/{}.py, line {}".format(*lines[-1]) if lines else f"config/{name}.py"


def load_config(config: int | str | Config, overrides: Iterable[str] = ()) -> Config:
    """Return the config with this number or name after the `section.field=value` overrides.

    Raises InputError for an unknown number, name or field, and for a value of another type or against a rule.
    """
    if isinstance(config, Config):
        return override(config, overrides)
    configs = registry()
    by_name = {found.name: found for found in configs.values()}
    text = str(config)
    by_text = {**by_name, **{str(number): found for number, found in configs.items()}}
    config_class = by_text.get(text.lstrip("0") or "0" if text.isdecimal() else text)
    if config_class is None:
        raise InputError(f"--config {shorten(text)}: {_why_unknown(text, configs, by_name)}")
    try:
        own = check(config_class())
    except InputError as error:
        raise InputError(f"{file_of(config_class)}: {error}") from None
    return override(own, overrides)


def _why_unknown(text: str, numbers: Iterable[int], names: Iterable[str]) -> str:
    unnumbered = next((found for found in _config_classes() if found.name == text), None)
    if unnumbered:
        return f"{unnumbered.__name__} in {file_of(unnumbered)} has no number; add a line such as number = 100"
    hint = did_you_mean(text, names, otherwise=f"the numbers are {', '.join(map(str, numbers))}")
    return f"there is no such config; {hint} (python demo.py --list shows all)"
