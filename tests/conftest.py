"""Settings of all tests: signals, temporary folders and the graph cache do not leak out of a test run."""

import os
import shutil
import signal
import tempfile

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes at once: a thread each, for the programs they start too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tools.engine.graph_cache import CACHE_VARIABLE

hypothesis.settings.register_profile("untimed", deadline=None)  # how long an example takes is not what is tested
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _signals_as_they_were():
    """A door that is called inside of the tests' process sets signals as if the process were its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _temporary_folders_of_the_tests(tmp_path_factory):
    """All in one that vanishes at the end, those of the programs that they start too."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _compiled_networks_of_the_tests(tmp_path_factory):
    """A cache of their own, for the programs that they start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("compiled")))
        yield
