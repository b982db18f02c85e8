"""The benchmark of training batches runs; it checks by itself that both computations give the same."""

import cv2

from tests.benchmarks import training_batches
from tests.support import trainings
from tests.support.programs import run_main


def test_few_pictures():
    threads = cv2.getNumThreads()
    try:
        done = run_main(training_batches.main, *trainings.options("target.soft_masks=false"), "--pictures=3")
    finally:
        cv2.setNumThreads(threads)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ms each\n") == 2


def test_a_network_without_shared_masks_is_refused():
    done = run_main(training_batches.main, "--config=13")
    assert done.returncode == 2
    assert "--config: choose one of SOLOv2" in done.stderr
