"""Compute the mask AP of a network during its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from paddle import nn

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco_pictures import Record
from data.images import write_image
from tools.common.distributed import World
from tools.common.skipped import print_skipped
from tools.evaluate.coco_metrics import GroundTruth, mask_precision
from tools.evaluate.match_score import MatchScore, best_match, match_curve
from tools.evaluate.picture_loader import PictureLoader
from tools.evaluate.predict_records import predict_records
from tools.evaluate.predictions import draw_predictions
from tools.predict.load import network_predictor
from tools.predict.predictor import DEFAULT_THREADS


class MaskAP(NamedTuple):
    """Mask AP, and mask AP at IoU 0.5, both 0 to 1; match: at the threshold with the highest S, if that selects."""

    ap: float
    ap50: float
    match: MatchScore | None = None

    @property
    def selecting(self) -> float:
        """The number by which the best checkpoint is selected."""
        return self.match.s if self.match else self.ap


def mask_ap(
    config: Config,
    classes: ClassList,
    records: Sequence[Record],
    truth: GroundTruth | None,
    *,
    world: World,
    drawing: Path | None = None,
) -> Callable[[nn.Layer], MaskAP]:
    """Return a function that computes the mask AP of a network on these pictures, the same in all processes.

    Pictures that cannot be read are named once and left out, so that they do not end a training.
    truth: needed in the first process only. drawing: file of a drawing of some predictions, written at each call.
    """
    named: set[int] = set()

    def evaluate(network: nn.Layer) -> MaskAP:
        share = len(records) // world.size
        predictor = network_predictor(network, config, classes, score=config.eval_cfg.score, pictures=share)
        threads = 1 if world.size > 1 else DEFAULT_THREADS
        unreadable: dict[int, str] = {}
        rows = predict_records(predictor, records, world=world, threads=threads, unreadable=unreadable)
        if len(unreadable) == len(records):
            raise InputError(
                f"{next(iter(unreadable.values()))}; no validation picture can be read, check their folder"
            )
        for image_id in sorted(unreadable.keys() - named):
            print_skipped(f"{unreadable[image_id]}; it is left out of the evaluation")
        named.update(unreadable)
        readable = [record for record in records if record.image_id not in unreadable]
        scores = None
        if world.is_first:
            assert truth is not None  # the first process has it
            image_ids = {record.image_id for record in readable}
            summary = mask_precision(truth, rows, image_ids, config.eval_cfg.max_dets).summary
            by_match = config.eval_cfg.select_by == "match"
            match = best_match(match_curve(truth, rows, image_ids)) if by_match else None
            scores = MaskAP(summary["AP"] or 0.0, summary["AP50"] or 0.0, match)
            if drawing:
                loader = PictureLoader(readable, rows, truth, classes, config.data.stretch)
                shown = match.threshold if match else config.test_cfg.score
                write_image(drawing, draw_predictions(readable, loader, score=shown))
        return world.gather(scores)[0]

    return evaluate
