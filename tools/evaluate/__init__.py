"""How good a network is: COCO evaluation, reports, plots."""
