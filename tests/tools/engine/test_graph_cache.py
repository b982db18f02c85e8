"""The cache of compiled graphs: hits, damaged entries, several processes at once, and limits."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from config.errors import InputError
from tools.engine import graph_cache as module
from tools.engine.graph_cache import (
    CACHE_VARIABLE,
    LOCK,
    MANIFEST,
    SIZE_VARIABLE,
    STALE_AFTER,
    cache_folder,
    cached_graphs,
    key_of,
)

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.zeros(4, np.float32)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "network.json").write_text("graph")
        (folder / "network.pdiparams").write_bytes(bytes(range(256)))


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != LOCK)


def test_what_was_made_once_is_found_again(cache: Path) -> None:
    make = Maker()
    folder = cached_graphs("key", make)
    assert folder == cache / "key" == cached_graphs("key", make)
    assert make.calls == 1
    assert (folder / "network.json").read_text() == "graph"
    assert entries(cache) == ["key"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "network.pdiparams").write_bytes(b"half"),
        lambda folder: (folder / "network.pdiparams").unlink(),
        lambda folder: (folder / MANIFEST).write_text('{"network.json": '),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: shutil.rmtree(folder),
    ],
)
def test_a_damaged_entry_is_made_anew(damage) -> None:
    make = Maker()
    damage(cached_graphs("key", make))
    folder = cached_graphs("key", make)
    assert make.calls == 2
    assert (folder / "network.pdiparams").read_bytes() == bytes(range(256))


def test_a_failure_leaves_nothing_behind(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "network.json").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cached_graphs("key", fail)
    assert entries(cache) == []


def test_several_at_once_get_the_same_whole_entry(cache: Path) -> None:
    barrier = Barrier(4)

    def make(folder: Path) -> None:
        Maker()(folder)
        barrier.wait()  # nobody finishes before all have begun

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: cached_graphs("key", make), range(4)))
    assert set(folders) == {cache / "key"}
    assert entries(cache) == ["key"]
    assert cached_graphs("key", Maker()) == cache / "key"


def test_the_entries_used_last_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP", 2)
    make = Maker()
    for age, key in ((300, "old"), (200, "used")):
        os.utime(cached_graphs(key, make), (1e9 - age, 1e9 - age))
    cached_graphs("old", make)  # and so it is the one used last
    cached_graphs("new", make)
    assert entries(cache) == ["new", "old"]


@pytest.mark.parametrize(("gigabytes", "left"), [("0.0000011", ["key3", "key4"]), ("0", ["key4"]), ("", 5)])
def test_the_entries_used_last_fit_into_the_size(cache: Path, monkeypatch: pytest.MonkeyPatch, gigabytes, left) -> None:
    """Each entry has 256 bytes, some of a graph and of the manifest; the last one stays whatever its size."""
    monkeypatch.setenv(SIZE_VARIABLE, gigabytes)
    for number in range(5):
        folder = cached_graphs(f"key{number}", Maker())
        if number < 4:
            os.utime(folder, (1e9 + number,) * 2)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert 400 < size < 700
    assert entries(cache) == (left if isinstance(left, list) else [f"key{number}" for number in range(left)])


def test_an_entry_that_another_process_is_about_to_load_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, "0")
    for key in ("first", "second"):
        cached_graphs(key, Maker())
    assert entries(cache) == ["first", "second"]
    os.utime(cache / "first", (time.time() - module.IN_USE - 5,) * 2)
    cached_graphs("third", Maker())
    assert entries(cache) == ["second", "third"]


def test_a_default_folder_that_a_group_may_write_is_refused_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """It may be a clone of this project below XDG_CACHE_HOME."""
    folder = tmp_path / "paddle-solo"
    folder.mkdir()
    folder.chmod(0o775)
    (folder / "thesis").write_text("text")
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(module, "user_cache_path", lambda *_, **__: folder)
    with pytest.raises(InputError, match="other users can write .*chmod go-w"):
        cached_graphs("key", Maker())
    assert (folder / "thesis").read_text() == "text"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", ["network.json", MANIFEST])
def test_a_pipe_in_an_entry_is_not_waited_for(name) -> None:
    make = Maker()
    folder = cached_graphs("key", make)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert cached_graphs("key", make) == folder and make.calls == 2


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_size_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, text) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, text)
    with pytest.raises(InputError, match=f"{SIZE_VARIABLE}={text}: expected a number of gigabytes"):
        cached_graphs("key", Maker())


def test_the_folder_is_for_its_user_only(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_graphs("key", Maker())
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o770)
    with pytest.raises(InputError, match=f"{cache}: other users can write .*chmod go-w"):
        cached_graphs("key", Maker())
    cache.chmod(0o755)
    cached_graphs("key", Maker())
    monkeypatch.setenv(CACHE_VARIABLE, "/dev/null")
    with pytest.raises(InputError, match="/dev/null: is no folder"):  # not "run chmod"
        cached_graphs("key", Maker())
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(InputError, match=f"{cache}: .* belongs to another user; .*{CACHE_VARIABLE}"):
        cached_graphs("key", Maker())


def test_a_link_as_lock_is_not_followed(cache: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("text")
    cache.mkdir()
    (cache / LOCK).symlink_to(precious)
    with pytest.raises(InputError, match=f"{LOCK}: is a link"):
        cached_graphs("key", Maker())
    assert precious.read_text() == "text"


@pytest.mark.parametrize("linked", ["", MANIFEST, "network.json"])
def test_links_are_no_entries(cache: Path, tmp_path: Path, linked) -> None:
    make = Maker()
    file = cached_graphs("key", make) / linked
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    folder = cached_graphs("key", make)
    assert make.calls == 2 and not (folder / linked).is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_a_manifest_names_files_of_its_folder_only(cache: Path) -> None:
    make = Maker()
    folder = cached_graphs("key", make)
    sums = json.loads((folder / MANIFEST).read_text())
    sums["../key/network.json"] = sums["network.json"]
    (folder / MANIFEST).write_text(json.dumps(sums))
    cached_graphs("key", make)
    assert make.calls == 2


def test_what_a_killed_process_was_making_goes_after_a_day(cache: Path) -> None:
    for name, age in ((".making_1", 2 * STALE_AFTER), (".making_2", 60)):
        (cache / name / "made").mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    cached_graphs("key", Maker())
    assert entries(cache) == [".making_2", "key"]


def test_a_folder_that_cannot_be_written_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file")
    monkeypatch.setenv(CACHE_VARIABLE, str(cache / "in_a_file"))
    with pytest.raises(InputError, match=rf"cannot be written .*{CACHE_VARIABLE}.*the engine dynamic"):
        cached_graphs("key", Maker())


def test_default_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "paddle-solo"


def test_a_key_depends_on_everything_but_the_order_of_the_arrays() -> None:
    key = key_of(("static", 1), ARRAYS)
    assert key == key_of(("static", 1), dict(reversed(ARRAYS.items())))
    changed = ARRAYS["a.weight"].copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    others = [
        key_of(("static", 2), ARRAYS),
        key_of(("static",), ARRAYS),
        key_of(("static", 1), {}),
        key_of(("static", 1), {**ARRAYS, "a.weight": changed}),
        key_of(("static", 1), {**ARRAYS, "a.weight": ARRAYS["a.weight"].reshape(3, 2)}),
        key_of(("static", 1), {"c.weight": ARRAYS["a.weight"], "b.bias": ARRAYS["b.bias"]}),
        key_of(("static", 1), {**ARRAYS, "b.bias": np.zeros(4, np.int32)}),
    ]
    assert len({key, *others}) == len(others) + 1


def test_a_key_depends_on_the_code_of_the_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = key_of((), {})
    shutil.copytree(module.PROJECT / "model", tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(module.PROJECT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    assert key_of((), {}) == before
    with (tmp_path / "model" / "neck" / "fpn.py").open("a") as file:
        file.write("# changed\n")
    assert key_of((), {}) != before
