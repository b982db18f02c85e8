"""Networks so small that a picture takes milliseconds, with score thresholds that random weights pass."""

from __future__ import annotations

import threading
from functools import lru_cache, partial

import numpy as np

from config.networks import HEAD_KINDS
from data.shapes import draw_scene
from tests.support.programs import override_options
from tools.predict.load import load_predictor
from tools.predict.predictor import Predictor

CONFIG = 3
OVERRIDES = (
    "data.short_side=64",
    "data.long_side=96",
    "backbone.stem_channels=16",
    "backbone.stage_channels=16,16,32,32",
    "neck.out_channels=32",
    "mask_feat_head.mid_channels=32",
    "mask_feat_head.out_channels=32",
    "head.channels=32",
    "head.stacked_convs=1",
    "head.num_grids=12,10,8,6,4",
    "nms.score_thr=0.012",
    "nms.update_thr=0.001",
    "nms.max_per_img=8",
    "test_cfg.score=0",
)
# For backbones of one width, and where the tiny one's maps have too many equal neighbours.
FULL_WIDTH = ("backbone.stem_channels=64", "backbone.stage_channels=64,128,256,512")
GRID_KINDS = tuple(name for name, kind in HEAD_KINDS.items() if not kind.predicts_boxes)
OPTIONS = (f"--config={CONFIG}", "--engine=dynamic", *override_options(*OVERRIDES))
CENTERMASK2 = 30
CENTERMASK2_OVERRIDES = (
    "data.short_side=64",
    "data.long_side=96",
    "backbone.stem_channels=8",
    "backbone.stage_channels=8,8,8,8",
    "backbone.stage_outputs=16,16,16,16",
    "neck.out_channels=16",
    "head.channels=16",
    "head.stacked_convs=1",
    "head.norm_groups=4",
    "roi.mask_channels=8",
    "roi.mask_convs=1",
    "roi.iou_channels=8",
    "roi.iou_convs=1",
    "roi.iou_features=16",
    "nms.score_thr=0.012",
    "nms.max_per_img=8",
    "test_cfg.score=0",
)

predictor = partial(load_predictor, engine="dynamic")  # compiling takes longer than the tests


@lru_cache(maxsize=1)
def tiny_predictor() -> Predictor:
    """Return a predictor that finds meaningless instances in every picture."""
    return predictor(CONFIG, untrained=0, overrides=OVERRIDES)


def scene(seed: int, height: int = 80, width: int = 120) -> np.ndarray:
    """Return a generated RGB picture, uint8 [height, width, 3]."""
    return draw_scene(rng=np.random.default_rng(seed), height=height, width=width).image


def pool_threads() -> int:
    """Return the number of threads of pools that are alive, without tqdm's own thread."""
    return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())
