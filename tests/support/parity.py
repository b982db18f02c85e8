"""The recorded numbers of the original programs, if the folder `shared` is next to the project."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from config.base import PROJECT
from tools.predict.instances import Instances

SHARED = PROJECT.parent / "shared"
PARITY = SHARED / "parity"
COCO_TINY = SHARED / "coco_tiny"

needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"the original programs' numbers are not in {PARITY}")
needs_coco = pytest.mark.skipif(not COCO_TINY.is_dir(), reason=f"the COCO pictures are not in {COCO_TINY}")


@lru_cache(maxsize=1)
def recipe():
    """Return the module that draws weights and pictures from seeds."""
    spec = importlib.util.spec_from_file_location("weights_recipe", PARITY / "weights_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(salt: int = 1) -> np.ndarray:
    return recipe().image(480, 640, salt=salt)


class Fixture:
    """One recorded evaluation, such as `solo_solov2_r50_fpn_8gpu_3x_evalc`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model, _, self.kind = name.rpartition("_")
        self.data = np.load(PARITY / f"{name}.npz")
        self.meta = json.loads(str(self.data["meta"]))

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Return the foreign checkpoint with the constants that were added to its biases for the recording."""
        weights = foreign_checkpoint(self.model)
        if self.model.startswith("solo"):
            kind = "dsolo" if "decoupled" in self.model else "solo"
            bias = weights[f"bbox_head.{kind}_cate.bias"]
            bias += np.float32(self.data["bias_add"])
            if "bias_vector" in self.data:
                bias += self.data["bias_vector"]
            return weights
        for branch in ("cate", "kernel"):
            for prefix in ("", "solov2_head.bbox_head.", "solov2_head.", "bbox_head."):
                name = f"{prefix}solo_{branch}.bias"
                if name in weights:
                    weights[name] = weights[name] + np.float32(self.meta[f"{branch}_bias_added"])
        return weights

    def stages(self) -> list[str]:
        return [key[: -len("/values")] for key in self.data.files if key.endswith("/values")]

    def final(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return classes, scores and masks bool [n, H, W] of the instances, without PaddleDetection's padding row."""
        if "result/labels" in self.data:
            count, height, width = self.data["result/shape"]
            bits = np.unpackbits(self.data["result/masks_packed"], axis=1)[:, : height * width]
            return self.data["result/labels"], self.data["result/scores"], bits.reshape(count, height, width) > 0
        height, width = self.data["det/mask_shape"][1:].tolist()
        counts = self.data["det/rle_counts"][:-1]
        masks = [coco_mask.decode({"size": [height, width], "counts": str(c).encode()}) > 0 for c in counts]
        return self.data["det/class"][:-1], self.data["det/score"][:-1], np.stack(masks)

    def areas_before_nms(self) -> tuple[np.ndarray, np.ndarray]:
        """Return classes and areas of the masks that enter Matrix NMS (in the original SOLO the best 500)."""
        prefix = "nms/pre" if "nms/pre_labels" in self.data else "nms/in"
        return self.data[f"{prefix}_labels"], self.data[f"{prefix}_areas"]


def foreign_checkpoint(model: str) -> dict[str, np.ndarray]:
    """Return the checkpoint that `<model>_shapes.json` describes, aliases included."""
    described = json.loads((PARITY / f"{model}_shapes.json").read_text())
    weights = recipe().state(described.get("shapes", described))
    aliases = described.get("aliases", {})
    return {**weights, **{alias: weights[name] for alias, name in aliases.items()}}


def relative_errors(recorded: np.ndarray, ours: np.ndarray, spread: float) -> np.ndarray:
    """Return the differences at the 64 recorded places, relative to |value| + the stage's standard deviation."""
    places = np.linspace(0, ours.size - 1, len(recorded)).astype(int)
    return np.abs(ours.reshape(-1)[places] - recorded) / (np.abs(recorded) + spread)


def match(fixture: Fixture, found: Instances) -> tuple[list[int], set[int]]:
    """Match instances of the same class with scores within 2e-4 and an IoU of at least 0.995.

    Returns the rows of recorded instances without a match, and the indices of ours without one.
    """
    classes, scores, masks = fixture.final()
    ours = found.masks
    left = set(range(len(found)))
    unmatched = []
    for row, (class_id, score, mask) in enumerate(zip(classes, scores, masks)):
        candidates = [i for i in left if found.classes[i] == class_id and abs(found.scores[i] - score) < 2e-4]
        overlaps = {i: mask_iou(mask, ours[i]) for i in candidates}
        best = max(overlaps, key=overlaps.get, default=None)
        if best is None or overlaps[best] < 0.995:
            unmatched.append(row)
        else:
            left.remove(best)
    return unmatched, left


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    union = (first | second).sum()
    return (first & second).sum() / union if union else 1.0
