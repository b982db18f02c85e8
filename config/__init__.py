"""The registry of configs: a number and a name for each model; numbers are fixed for ever."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import lru_cache

from config.base import Config
from config.errors import InputError
from config.overrides import override


@lru_cache(maxsize=1)
def registry() -> dict[int, type[Config]]:
    """All numbered configs by number, in order. A config's name is the name of its file."""
    found: dict[int, type[Config]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"config.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Config) and value.__module__ == module.__name__:
                if "number" not in vars(value):
                    continue
                if found.setdefault(value.number, value) is not value:
                    raise ValueError(f"{value.name} and {found[value.number].name} both have number {value.number}")
    return dict(sorted(found.items()))


def load_config(config: int | str | Config, overrides: Iterable[str] = ()) -> Config:
    """The config with this number or name, with `section.field=value` overrides applied.

    Raises InputError for an unknown number, name or field.
    """
    if isinstance(config, Config):
        return override(config, overrides)
    configs = registry()
    by_name = {found.name: found for found in configs.values()}
    text = str(config)
    found = configs.get(int(text)) if text.isdecimal() else by_name.get(text)
    if found is None:
        near = difflib.get_close_matches(text, by_name, n=1)
        hint = f"did you mean {near[0]}?" if near else f"numbers are {', '.join(map(str, configs))}"
        raise InputError(f"--config {text}: there is no such config; {hint} (python demo.py --list shows all)")
    return override(found(), overrides)
