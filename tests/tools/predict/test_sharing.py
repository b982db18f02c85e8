"""A predictor may be shared between threads, and says so if it is used in a forked process."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError, Event, Timer

import numpy as np
import pytest

from config.engines import ENGINES, PACKAGES
from config.errors import InputError
from tests.support import tiny
from tests.support.programs import run_python
from tests.support.slow import slow_except_first
from tests.tools.engine.test_engines import needs_packages_of
from tools.predict.load import load_predictor
from tools.predict.predictor import Predictor, streams_for

ENGINE_NAMES = [pytest.param(engine, marks=needs_packages_of(engine)) for engine in ENGINES]
THREADS, CALLS = 4, 48
SCENES = [tiny.scene(seed, 64 + 8 * seed, 120 - 8 * seed) for seed in range(6)]

# The parent loads a predictor. A forked child uses it before the parent has, another one after it; a third one loads
# a predictor of its own.
FORK = """
import os, sys
from tests.support import tiny
from tests.support.slow import slow_except_first
from config.errors import InputError

def load():
    return tiny.predictor(tiny.CONFIG, untrained=0, overrides=tiny.OVERRIDES, engine=sys.argv[1])

def fork(child_loads):
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        return
    try:
        (load() if child_loads else predictor)(tiny.scene(0))
    except InputError as error:
        print(error, flush=True)
        os._exit(2)
    os._exit(0)

predictor = load()
fork(child_loads=False)
predictor(tiny.scene(0))
fork(child_loads=False)
fork(child_loads=True)
"""


def with_engine(engine: str, kind: str, *, streams: int = 1) -> Predictor:
    config, overrides = tiny.CONFIG, tiny.OVERRIDES
    if kind == "centermask2":
        config, overrides = tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES
    return load_predictor(config, untrained=0, overrides=overrides, engine=engine, streams=streams)


@slow_except_first("kind", ["solov2", "centermask2"])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_four_threads_get_what_one_thread_gets(engine, kind):
    predictor = with_engine(engine, kind)
    expected = [predictor(scene).to_coco(1) for scene in SCENES]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda call: predictor(SCENES[call % len(SCENES)]).to_coco(1), range(CALLS)))
    assert found == [expected[call % len(SCENES)] for call in range(CALLS)]


@slow_except_first("kind", ["solov2", "centermask2"])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_several_streams_find_what_one_finds_in_the_same_order(engine, kind, monkeypatch):
    monkeypatch.setattr("tools.predict.load.CPU_THREADS", 3)
    one, several = (with_engine(engine, kind, streams=streams) for streams in (1, 3))
    assert several.streams == (3 if engine in PACKAGES else 1)
    scenes = [SCENES[number % len(SCENES)] for number in range(24)]
    for found, expected in zip(several(scenes), one(scenes)):
        assert found.classes.tolist() == expected.classes.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_as_many_networks_run_at_a_time_as_there_are_streams():
    """Each waits until the other runs too; without worker threads they run one after another."""
    predictor, both = with_engine("dynamic", "solov2"), Barrier(2)
    engine = predictor.engine

    def run(*batch):
        both.wait(20)
        return engine(*batch)

    shared = Predictor(predictor.config, predictor.classes, run, score=0.0, engine_name="dynamic", streams=2)
    assert len(shared(SCENES)) == len(SCENES)
    with pytest.raises(BrokenBarrierError):
        both.reset()
        Timer(0.3, both.abort).start()
        list(shared.stream(SCENES, threads=0))


@pytest.mark.parametrize(
    ("pictures", "threads", "cores", "streams"),
    [(8, 4, 2, 2), (7, 4, 2, 1), (8, 4, 64, 4), (8, 0, 2, 1), (8, 1, 2, 1), (100, 4, 1, 1), (8, 3, 64, 3)],
)
def test_folders_run_in_several_streams(monkeypatch, pictures, threads, cores, streams):
    monkeypatch.setattr("tools.predict.predictor.CPU_THREADS", cores)
    assert streams_for(pictures, threads) == streams


def test_a_picture_is_decoded_while_the_network_runs_on_another():
    """Only the network waits for its turn: here the first picture is decoded during the second one's network."""
    predictor = with_engine("dynamic", "solov2")
    engine, decode, decoding, running = predictor.engine, predictor._decoder, Event(), Event()

    def run(*batch):
        if decoding.is_set():
            running.set()
        return engine(*batch)

    def wait_for_the_network(*arguments):
        decoding.set()
        assert running.wait(20)
        return decode(*arguments)

    predictor.engine, predictor._decoder = run, wait_for_the_network
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(predictor, SCENES[0])
        assert decoding.wait(20)
        assert len(pool.submit(predictor, SCENES[1]).result(20)) and len(first.result(20))


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_predictor_that_is_sent_to_a_process_says_what_to_do_instead(send):
    with pytest.raises(InputError, match="create it there with load_predictor"):
        send(with_engine("dynamic", "solov2"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_forked_process_says_what_to_do_instead_of_waiting_forever(engine):
    done = run_python("-c", FORK, engine, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1::2] == ["2"] * 3
    for line in lines[::2]:
        assert "forked" in line and "in the process that uses it" in line and "spawn" in line
