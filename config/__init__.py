"""The registry of configs: a number and a name for each model; numbers are fixed for ever."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from config.base import Config, file_of
from config.errors import InputError
from config.overrides import override
from config.values import did_you_mean


@lru_cache(maxsize=1)
def registry() -> dict[int, type[Config]]:
    """All numbered configs by number, in order. A config's name is the name of its file.

    Raises InputError for a file that cannot be imported and for two configs with the same number.
    """
    found: dict[int, type[Config]] = {}
    for kind in _stated_configs():
        if "number" not in vars(kind):
            continue
        other = found.setdefault(kind.number, kind)
        if other is not kind:
            raise InputError(f"{file_of(other)} and {file_of(kind)} both have number = {kind.number}; give one another")
    return dict(sorted(found.items()))


@lru_cache(maxsize=1)
def _stated_configs() -> tuple[type[Config], ...]:
    """The subclasses of Config in all files of this folder, those without a number of their own too."""
    modules = [_imported(module_info.name) for module_info in pkgutil.iter_modules(__path__)]
    values = [value for module in modules for value in vars(module).values() if _module_of(value) == module.__name__]
    return tuple(value for value in values if issubclass(value, Config) and value is not Config)


def _module_of(value: object) -> str | None:
    """The module with the statement of a class; None for what is no class."""
    return value.__module__ if isinstance(value, type) else None


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"config.{name}")
    except InputError:
        raise
    except Exception as error:  # a user's file may raise anything
        raise InputError(f"{_place(error, name)}: {type(error).__name__}: {error}; correct this file") from error


def _place(error: Exception, name: str) -> str:
    """The file and line of this folder that an error came from while `name` was imported, which may import others."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno))
    lines = [(Path(file).stem, line) for file, line in lines if str(Path(file).parent) in __path__ and file != __file__]
    return "config/{}.py, line {}".format(*lines[-1]) if lines else f"config/{name}.py"


def load_config(config: int | str | Config, overrides: Iterable[str] = ()) -> Config:
    """The config with this number or name, with `section.field=value` overrides applied.

    Raises InputError for an unknown number, name or field, and for values of another type or without sense.
    """
    if isinstance(config, Config):
        return override(config, overrides)
    configs = registry()
    by_name = {found.name: found for found in configs.values()}
    text = str(config)
    found = configs.get(int(text)) if text.isdecimal() else by_name.get(text)
    if found is None:
        raise InputError(f"--config {text}: {_why_unknown(text, configs, by_name)}")
    return override(found(), overrides)


def _why_unknown(text: str, numbers: Iterable[int], names: Iterable[str]) -> str:
    numberless = next((kind for kind in _stated_configs() if kind.name == text), None)
    if numberless:
        return f"{file_of(numberless)} gives {numberless.__name__} no number of its own; add one such as number = 100"
    hint = did_you_mean(text, names, otherwise=f"numbers are {', '.join(map(str, numbers))}")
    return f"there is no such config; {hint} (python demo.py --list shows all)"
