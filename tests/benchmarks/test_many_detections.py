"""The program that times encoding and AP runs, and its numbers are pycocotools' own, which it compares itself."""

import sys

from tests.benchmarks import many_detections


def test_few_pictures(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["many_detections", "--pictures=3"])
    assert many_detections.main() == 0
    assert capsys.readouterr().out.count(" s\n") == 4
