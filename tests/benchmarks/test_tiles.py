"""The benchmark of tiles runs, and masks find more than boxes in its drawn pictures."""

from tests.benchmarks import tiles
from tests.support.programs import run_main


def test_drawn_pictures():
    done = run_main(tiles.main, "--shapes=1")
    assert done.returncode == 0, done.stderr
    scores = {line.split()[2]: float(line.split()[4]) for line in done.stdout.splitlines() if line.startswith("shapes")}
    assert scores["masks"] > scores["boxes"] and scores["masks"] > scores["single"]
