"""Settings of all tests: signals, temporary folders and the graph cache do not leak out of a test run."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each of several test processes and the programs they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.support import exports
from tools.common.signals import STOP_SIGNALS
from tools.engine.graph_cache import CACHE_VARIABLE

hypothesis.settings.register_profile("untimed", deadline=None)  # the time of an example depends on the machine
hypothesis.settings.load_profile("untimed")


for _number in STOP_SIGNALS:
    if signal.getsignal(_number) is signal.SIG_IGN:  # started by nohup; the tests are about programs that are not
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _restored_signals():
    """Restore signal handlers, which a program sets when a test calls its `main`."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory):
    """Put all temporary folders, also those of started programs, into one that is deleted at the end."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _compiled_networks(tmp_path_factory):
    """Give the tests, and the programs that they start, a graph cache of their own and a folder of exported networks.

    All test processes share them.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder / "compiled"))
        patch.setattr(exports, "FOLDER", folder / "exported")
        yield
