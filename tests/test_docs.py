"""Everything that README.md and docs/ name exists, and the Chinese pages are in step with the English ones."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import NamedTuple

import pytest

from config import load_config, registry
from config.base import PROJECT, SECTIONS, Config, known_fields

ENGLISH = (
    "README.md",
    *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md") if path.suffixes == [".md"]),
)
TWINS = {name: name.replace(".md", ".zh-CN.md") for name in ENGLISH}
PAGES = (*ENGLISH, *TWINS.values())
GUIDE = "CONTRIBUTING.md"
LONGEST_README = 250
# Files that readers write themselves, and folders that programs write.
EXAMPLE_FILES = {"config/mine.py", "images/res"}
EXAMPLE_CONFIGS = {"100", "N"}
FIRST_OWN_NUMBER = 100  # of configs that readers add
FOLDERS = ("config", "model", "data", "tools", "convert", "tests", "images", "docs", ".ci")
FOREIGN_OPTIONS = {"--nproc_per_node"}  # paddle.distributed.launch


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    text: str


@cache
def read_page(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


@cache
def find_blocks(name: str) -> tuple[Block, ...]:
    return tuple(Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", read_page(name), re.M | re.S))


@cache
def remove_blocks(name: str) -> str:
    """Return the page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", read_page(name), flags=re.M | re.S)


def find_spans(name: str) -> list[str]:
    """Return the texts in backticks outside of blocks of code."""
    return re.findall(r"`([^`\n]+)`", remove_blocks(name))


def find_links(name: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", remove_blocks(name))


def find_headings(name: str) -> list[tuple[int, str]]:
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", remove_blocks(name), re.M)]


def find_commands(name: str) -> Iterator[list[str]]:
    """Yield the words of each command that runs a Python program of ours, from the program's name on."""
    shell = [block.text for block in find_blocks(name) if block.language == "bash"]
    lines = "\n".join([*shell, *find_spans(name)]).replace("\\\n", " ").splitlines()
    for line in lines:
        if re.match(r"(\.venv/bin/)?python ", line):
            words = shlex.split(line, comments=True)
            start = next(
                (place for place, word in enumerate(words) if re.match(r"(?!tests/)[\w/*]+\.py$|tests\.", word)), None
            )
            if start is not None:
                yield words[start:]


def select_options(words: list[str]) -> list[str]:
    """Return the long options in a command."""
    found = [re.match(r"\[?(--[\w-]+)", word) for word in words]
    return [match[1] for match in found if match]


@cache
def read_options(program: str) -> frozenset[str]:
    """Return the options that the --help of a program prints; program: a file, or a module such as `tests.x`."""
    page, arguments, path = StringIO(), sys.argv, list(sys.path)
    sys.argv = [program, "--help"]
    try:
        with redirect_stdout(page), pytest.raises(SystemExit):
            if program.endswith(".py"):
                runpy.run_path(str(PROJECT / program), run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__")
    finally:
        sys.argv, sys.path[:] = arguments, path
    return frozenset(re.findall(r"(?<![\w-])--?[a-z][\w-]*", page.getvalue()))


def make_anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def path_exists(path: str) -> bool:
    path = path.rstrip("/")
    return path in EXAMPLE_FILES or any(PROJECT.glob(path))


def strip_comments(code: str) -> list[str]:
    lines = [re.sub(r"(^|\s+)#.*$", "", line) for line in code.splitlines()]
    return [line for line in lines if line.strip()]


def test_readme_is_short():
    assert all(len(read_page(name).splitlines()) <= LONGEST_README for name in ("README.md", TWINS["README.md"]))


@pytest.mark.parametrize("name", [*PAGES, GUIDE])
def test_links_lead_somewhere(name):
    for link in find_links(name):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((PROJECT / name).parent / path).resolve() if path else PROJECT / name
        assert path_exists(str(target.relative_to(PROJECT))), f"{name}: {link}"
        if anchor:
            anchors = [make_anchor(title) for _, title in find_headings(target.relative_to(PROJECT).as_posix())]
            assert anchor in anchors, f"{name}: {link}"


@pytest.mark.parametrize("name", [*PAGES, GUIDE])
def test_named_files_exist(name):
    words = [word for command in find_commands(name) for word in command]
    words += [word for span in find_spans(name) for word in span.split()]
    paths = {word for word in words if word.startswith(tuple(f"{folder}/" for folder in FOLDERS))}
    paths |= {word for word in words if re.fullmatch(r"[\w.]+\.py", word)}
    missing = [
        path
        for path in paths
        if not re.search("NAME|MODEL", path) and not path_exists(path) and not path_exists(f"tools/{path}")
    ]
    assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("name", PAGES)
def test_options_of_commands_exist(name):
    for program, *words in find_commands(name):
        if "NAME" in program or not words:
            continue
        unknown = set(select_options(words)) - read_options(program)
        assert not unknown, f"{name}: {program} has no option {', '.join(unknown)}"


@pytest.mark.parametrize("name", PAGES)
def test_other_options_are_those_of_some_program(name):
    programs = {program for page in ENGLISH for program, *_ in find_commands(page) if "NAME" not in program}
    known = FOREIGN_OPTIONS.union(*map(read_options, programs))
    unknown = {option for span in find_spans(name) for option in select_options(span.split())} - known
    assert not unknown, f"{name}: {unknown}"


@pytest.mark.parametrize("name", PAGES)
def test_configs_and_their_fields_exist(name):
    """Commands are checked with the values they set, other places by the names of the fields."""
    for _, *words in find_commands(name):
        pairs = list(zip(words, words[1:]))
        overrides = [value for option, value in pairs if option == "-o" and value != "SECTION.FIELD=VALUE"]
        stated = [word.partition("=")[2].strip("]") for word in words if re.match(r"\[?--config=", word)]
        numbers = [number for value in stated for number in value.split(",")]
        for number in set(numbers) - EXAMPLE_CONFIGS or {"20"}:
            load_config(number, overrides)
    fields = known_fields(Config)
    for span in find_spans(name):
        for section, field in re.findall(r"(?:^|-o |[ ,])([a-z_]+)\.(?!yaml\b)([a-z_]+)(?==|$| )", span):
            assert section not in SECTIONS or f"{section}.{field}" in fields, f"{name}: {span}"


@pytest.mark.parametrize("name", PAGES)
def test_imports_of_examples_work(name):
    for block in find_blocks(name):
        for module, names in re.findall(r"^from ([\w.]+) import ([^#\n]+?) *(?:#.*)?$", block.text, re.M):
            for word in re.sub(r" as \w+", "", names).split(", "):
                assert hasattr(importlib.import_module(module), word), f"{name}: {module}.{word}"


@pytest.mark.parametrize("name", ["README.md", "docs/how_it_works.md"])
def test_examples_run(name, monkeypatch):
    """Their assertions hold."""
    monkeypatch.chdir(PROJECT)
    for block in find_blocks(name):
        if block.language == "python":
            exec(compile(block.text, name, "exec"), {})


@pytest.mark.parametrize(
    "name", ["README.md", "docs/converting.md", *(TWINS[n] for n in ("README.md", "docs/converting.md"))]
)
def test_tables_of_models_are_the_registry(name):
    rows = {int(row[1]): row[0].split("|") for row in re.finditer(r"^\| (\d+) \| `.*$", read_page(name), re.M)}
    configs = {number: kind for number, kind in registry().items() if number < FIRST_OWN_NUMBER}
    assert list(rows) == list(configs)
    for number, kind in configs.items():
        cells = [cell.strip() for cell in rows[number]]
        assert cells[2] == f"`{kind.name}`"
        precisions = list(dict.fromkeys(f"{published.mask_ap:.1f}" for published in kind.published))
        assert ", ".join(precisions) in cells or not precisions
        if name.startswith("docs"):
            assert f"{kind.data.short_side} / {kind.data.long_side}" in cells
            assert f"{kind.cost.parameters:.1f} M" in cells and f"{kind.cost.gflop:.1f}" in cells
            assert all(published.command(number) in rows[number][10] for published in kind.published)
            boxes = dict.fromkeys(f"{published.box_ap:.1f}" for published in kind.published if published.box_ap)
            assert cells[8] == ", ".join(boxes)
            times = dict.fromkeys(published.speed for published in kind.published if published.speed)
            assert cells[9] == "; ".join(times)


def test_times_of_the_readme_are_those_of_the_speed_table():
    times = r"(\d+, \d+, \d+) \|"
    speed = re.findall(rf"^\| (\d+) \| {times}", read_page("docs/engines_and_speed.md"), re.M)
    assert speed == re.findall(rf"^\| (\d+) \| `.* \| {times}$", read_page("README.md"), re.M) and len(speed) == 8


@pytest.mark.parametrize("name", ENGLISH)
def test_chinese_page_has_the_same_structure(name):
    twin = TWINS[name]
    assert [level for level, _ in find_headings(name)] == [level for level, _ in find_headings(twin)]
    assert len(find_blocks(name)) == len(find_blocks(twin))
    for ours, theirs in zip(find_blocks(name), find_blocks(twin)):
        assert ours.language == theirs.language
        assert strip_comments(ours.text) == strip_comments(theirs.text)


@pytest.mark.parametrize("name", ENGLISH)
def test_chinese_page_has_the_same_links_and_tables(name):
    """Links to pages lead to the Chinese ones, anchors aside; numbers in tables are equal."""
    twin = TWINS[name]

    def targets(page: str) -> Counter[str]:
        return Counter(link.partition("#")[0].replace(".zh-CN.md", ".md") for link in find_links(page))

    def rows(page: str) -> list[list[str]]:
        lines = re.findall(r"^\|.*$", remove_blocks(page), re.M)
        return [re.findall(r"\d[\d.]*", re.sub(r"`[^`]*`", "", line)) for line in lines]

    assert targets(name) == targets(twin)
    assert rows(name) == rows(twin)
    pages = {link.partition("#")[0] for link in find_links(twin)[1:]}
    assert not [page for page in pages if page.endswith(".md") and not page.endswith((".zh-CN.md", GUIDE))]
