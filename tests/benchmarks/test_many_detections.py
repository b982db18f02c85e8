"""The benchmark of encoding and AP runs; it checks by itself that its AP is that of pycocotools."""

from tests.benchmarks import many_detections
from tests.support.programs import run_main


def test_few_pictures():
    done = run_main(many_detections.main, "--pictures=3")
    assert (done.returncode, done.stdout.count(" s\n")) == (0, 4), done.stderr
