"""CenterMask2 computes the recorded numbers of the original program, from the picture to instances and gradients."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from pycocotools import mask as coco_mask

import model.centermask2
from config import load_config
from config.networks import BOX_STRIDES, level_sizes
from convert.names import CENTERMASK2
from data.box_targets import box_targets
from data.class_lists import ClassList
from data.preprocess import normalize, pad_to_batch, resize_image
from data.samples import MaskWindow
from model.decode.fast_boxes import find_candidates
from model.head.roi_align import box_features, box_levels
from model.losses.roi import mask_targets
from tests.support.centermask2 import MODELS, backbone_stages, recorded_network
from tests.support.parity import PARITY, foreign_checkpoint, needs_parity, picture, recipe, relative_errors
from tools.common.kinds import kind_of
from tools.predict.load import network_predictor
from tools.predict.predictor import Predictor, PreparedInput
from tools.train.optimizer import trainable_parameters

pytestmark = needs_parity

SLOW = (31, 38)
# Config, recording, and the limits of its picture's sides; the larger one takes a minute on a slow processor.
EVALUATIONS = (
    *(
        pytest.param((number, f"{model}_eval", 320, 512), id=model, marks=[pytest.mark.slow] if number in SLOW else [])
        for number, model in MODELS.items()
    ),
    pytest.param((30, "cm2_v39_eval800", 800, 1333), id="cm2_v39_800", marks=pytest.mark.slow),
)
TRAINED = 30  # config of the recorded training step
PLAIN_STAGES = ("input", "stem", "stage2")  # before the first deformable layer
LOSSES = {
    "category": "loss_fcos_cls",
    "box": "loss_fcos_loc",
    "centerness": "loss_fcos_ctr",
    "mask": "loss_mask",
    "mask_iou": "loss_maskiou",
}


@dataclass(frozen=True)
class Computed:
    """A recording, and what we compute of its picture."""

    recorded: Any
    network: nn.Layer
    predictor: Predictor
    prepared: PreparedInput
    raw: tuple[paddle.Tensor, ...]  # raw predictions
    stages: dict[str, np.ndarray]  # by the names of the recording


@pytest.fixture(scope="module", params=EVALUATIONS)
def computed(request):
    number, name, short, long = request.param
    network = recorded_network(number)
    recorded = np.load(PARITY / f"{name}.npz")
    config = load_config(number, [f"data.short_side={short}", f"data.long_side={long}"])
    network.eval()
    classes = ClassList(tuple(map(str, range(80))), tuple(range(1, 81)))
    predictor = network_predictor(network, config, classes, score=0.0)
    prepared = predictor.prepare(picture())
    batch = pad_to_batch([prepared.pixels], config.data.size_divisor)
    stages = {"input": batch}
    with paddle.no_grad():
        maps, of_backbone = backbone_stages(network.backbone, paddle.to_tensor(batch))
        pyramid = network.neck(maps[1:])
        stages.update(of_backbone)
        stages.update({f"p{index}": level for index, level in enumerate(pyramid, start=3)})
        towers = network.head.towers(pyramid)
        found = network.head.predictions(towers)
        stages["fcos/p4/cls_tower"], stages["fcos/p4/bbox_tower"] = towers[1], towers[1 + len(BOX_STRIDES)]
        parts = {"logits": found.logits, "ctrness": found.centre_logits.unsqueeze(2), "reg": found.distances}
        ends = np.cumsum([height * width for height, width in level_sizes(*batch.shape[2:])])
        for index, (start, end, level) in enumerate(zip([0, *ends], ends, pyramid), start=3):
            for part, rows in parts.items():
                as_map = rows[:, start:end].transpose([0, 2, 1]).reshape([1, -1, *level.shape[2:]])
                stages[f"fcos/p{index}/{part}"] = as_map
        raw = (*network.scores(towers), *pyramid[:3])
        for kind, boxes in (("det", recorded["proposals/boxes"]), ("given", recorded["given/boxes"])):
            stages.update(of_boxes(network, raw[3:], boxes, prepared.size, kind))
    stages = {name: np.asarray(stage) for name, stage in stages.items()}
    return Computed(recorded, network, predictor, prepared, raw, stages)


def of_boxes(network, maps, boxes: np.ndarray, size: tuple[int, int], kind: str) -> dict[str, paddle.Tensor]:
    features = box_features(maps, [boxes], [size], side=14)
    head = network.roi_head.mask_head
    convolved = features
    for layer in head.convs:
        convolved = F.relu(layer(convolved))
    attended = head.attended(convolved)
    upsampled = F.relu(head.deconv(attended))
    named = {
        "pooled": features,
        f"mask_fcn{len(head.convs)}": convolved,
        "spatial_attention": attended,
        "deconv": upsampled,
    }
    return {f"{kind}/{name}": value for name, value in {**named, "mask_logits": head.pred(upsampled)}.items()}


def test_the_picture_is_resized_as_pillow_does(computed):
    if "resized_bgr" in computed.recorded:
        resized = resize_image(picture(), computed.predictor.config.data)
        np.testing.assert_array_equal(resized[..., ::-1], computed.recorded["resized_bgr"])


def test_stages(computed):
    recorded, stages = computed.recorded, computed.stages
    is_deformable = computed.predictor.config.backbone.deform_version > 0
    names = [key[: -len("/values")] for key in recorded.files if key.endswith("/values")]
    names = [name for name in names if not name.endswith("maskiou_all_classes")]
    assert len(names) > 30
    for name in names:
        assert stages[name].shape == tuple(recorded[f"{name}/shape"]), name
        worst = relative_errors(recorded[f"{name}/values"], stages[name], float(recorded[f"{name}/std"])).max()
        assert worst < (1e-3 if is_deformable and name not in PLAIN_STAGES else 1e-4), name


def test_boxes(computed):
    recorded, predictor, prepared, raw = computed.recorded, computed.predictor, computed.prepared, computed.raw
    arrays = [part[0].numpy() for part in raw[:3]]
    sizes = level_sizes(*(BOX_STRIDES[0] * side for side in raw[3].shape[2:]))
    ends = np.cumsum([height * width for height, width in sizes])
    over = [(part > predictor.config.nms.score_thr).sum() for part in np.split(arrays[0], ends[:-1])]
    # Among up to 55,000 values, a few are within the rounding of the threshold.
    np.testing.assert_allclose(over, recorded["candidates/over_threshold_per_level"], rtol=0, atol=2)
    assert len(find_candidates(*arrays, sizes, predictor.config.nms).boxes) == recorded["candidates/count"]
    (found,) = predictor.engine(predictor.pad([prepared]), [prepared.size])
    np.testing.assert_allclose(found.boxes, recorded["proposals/boxes"], atol=1e-2)
    np.testing.assert_allclose(found.box_scores, recorded["proposals/scores"], atol=1e-5)
    np.testing.assert_array_equal(found.classes, recorded["proposals/classes"])
    np.testing.assert_allclose(found.masks, recorded["det/mask_probs"], atol=1e-3)
    np.testing.assert_allclose(found.scores / found.box_scores, recorded["det/maskiou"], atol=1e-4)


@pytest.mark.parametrize("kind", ["det", "given"])
def test_masks_of_given_boxes(computed, kind):
    """The boxes have all sizes and places; one has no area."""
    recorded, raw = computed.recorded, computed.raw
    boxes, classes = (recorded[f"{'proposals' if kind == 'det' else kind}/{part}"] for part in ("boxes", "classes"))
    size = computed.prepared.size
    np.testing.assert_array_equal(box_levels(boxes, size) + 3, recorded[f"{kind}/levels"])
    with paddle.no_grad():
        features = box_features(raw[3:], [boxes], [size], side=14)
        logits, overlaps = computed.network.roi_head(features, paddle.to_tensor(classes))
    np.testing.assert_allclose(features.mean(axis=[1, 2, 3]), recorded[f"{kind}/pooled_mean_per_roi"], atol=1e-5)
    np.testing.assert_allclose(F.sigmoid(logits), recorded[f"{kind}/mask_probs"], atol=1e-4)
    np.testing.assert_allclose(overlaps, recorded[f"{kind}/maskiou"], atol=1e-4)


def test_instances(computed):
    recorded, predictor, prepared = computed.recorded, computed.predictor, computed.prepared
    found = predictor.decode(predictor.engine(predictor.pad([prepared]), [prepared.size]), 0, prepared)
    np.testing.assert_allclose(found.network_boxes.boxes, recorded["final/boxes"], atol=0.05)
    np.testing.assert_allclose(found.network_boxes.scores, recorded["final/scores"], atol=1e-4)
    np.testing.assert_allclose(found.scores, recorded["final/mask_scores"], atol=1e-4)
    np.testing.assert_array_equal(found.classes, recorded["final/classes"])
    shape = recorded["final/masks_shape"]
    masks = np.unpackbits(recorded["final/masks_packed"])[: shape.prod()].reshape(shape) > 0
    for ours, theirs in zip(found.masks, masks):
        union = (ours | theirs).sum()
        assert not union or (ours & theirs).sum() / union > 0.995


class Recorded:
    """The recorded training step on a batch of two pictures."""

    def __init__(self) -> None:
        self.data = np.load(PARITY / "cm2_v39_train.npz")
        self.sizes = [tuple(size) for size in json.loads(str(self.data["meta"]))["sizes_h_w_salt"]]

    def polygons(self, index: int) -> list[list[list[float]]]:
        return json.loads(str(self.data[f"img{index}/gt_polygons_json"]))

    def windows(self, index: int) -> list[MaskWindow]:
        height, width, _ = self.sizes[index]
        rles = [coco_mask.merge(coco_mask.frPyObjects(parts, height, width)) for parts in self.polygons(index)]
        return [MaskWindow.from_full(coco_mask.decode(rle)) for rle in rles]

    def mask_targets(self, index: int) -> np.ndarray:
        shape = self.data[f"img{index}/mask_targets_shape"]
        bits = np.unpackbits(self.data[f"img{index}/mask_targets_packed"])
        return bits[: shape.prod()].reshape(shape) > 0

    def share(self, parts: list[list[float]], box: np.ndarray) -> float:
        """Return the share of an instance inside a box as the program counts it: pixels there / area of polygons."""
        moved = [(np.reshape(part, (-1, 2)) - box[:2]).ravel().tolist() for part in parts]
        pixels = coco_mask.area(coco_mask.frPyObjects(moved, box[3] - box[1], box[2] - box[0])).sum()
        return float(np.clip(pixels / sum(map(shoelace, parts)), 1e-10, 1))

    def targets(self, config) -> list:
        size = tuple(max(each[axis] for each in self.sizes) for axis in (0, 1))
        return [
            box_targets(
                self.windows(index),
                self.data[f"img{index}/gt_boxes"],
                self.data[f"img{index}/gt_classes"],
                picture=self.sizes[index][:2],
                size=size,
                config=config.target,
            )
            for index in range(len(self.sizes))
        ]


def shoelace(polygon: list[float]) -> float:
    xs, ys = np.reshape(polygon, (-1, 2)).T
    return 0.5 * abs(xs @ np.roll(ys, 1) - ys @ np.roll(xs, 1))


def test_location_targets():
    recorded, config = Recorded(), load_config(TRAINED)
    targets = recorded.targets(config)
    labels, distances, first = [], [], 0
    for count in recorded.data["fcos/locations_per_level"]:
        for target in targets:
            of_level = target.labels[first : first + count]
            before = (target.labels[:first] >= 0).sum()
            labels.append(of_level)
            distances.append(target.distances[before : before + (of_level >= 0).sum()])
        first += count
    theirs = recorded.data["fcos/labels"].astype(np.int64)
    np.testing.assert_array_equal(np.concatenate(labels), np.where(theirs == 80, -1, theirs))
    np.testing.assert_allclose(np.concatenate(distances), recorded.data["fcos/pos_reg_targets"], rtol=1e-6)
    centerness = np.concatenate([kind_of(config).target_tensors(target).centerness.numpy() for target in targets])
    np.testing.assert_allclose(np.sort(centerness), np.sort(recorded.data["fcos/pos_ctrness_targets"]), rtol=1e-5)


@pytest.mark.slow
def test_losses_and_gradients(monkeypatch):
    recorded, config, network = Recorded(), load_config(TRAINED), recorded_network(TRAINED)
    network.train()
    seen = []

    def from_polygons(chosen, picture, *, side):
        index = len(seen)
        seen.append(index)
        np.testing.assert_allclose(chosen.boxes, recorded.data[f"img{index}/fg_boxes"], atol=1e-2)
        np.testing.assert_array_equal(picture.classes[chosen.owners], recorded.data[f"img{index}/fg_classes"])
        ours, _ = mask_targets(chosen, picture, side=side)
        theirs = recorded.mask_targets(index)
        assert (ours == theirs).mean() > 0.99  # the program rasterises the polygon in each box
        polygons = recorded.polygons(index)
        shares = [recorded.share(polygons[owner], box) for box, owner in zip(chosen.boxes, chosen.owners)]
        return theirs, np.float32(shares)

    monkeypatch.setattr(model.centermask2, "mask_targets", from_polygons)
    images = [normalize(recipe().image(*size), config.data)[..., ::-1] for size in recorded.sizes]
    batch = paddle.to_tensor(pad_to_batch(images, config.data.size_divisor))
    targets = [kind_of(config).target_tensors(target) for target in recorded.targets(config)]
    losses = {name: loss.mean() for name, loss in network.losses(batch, targets).items()}
    for ours, theirs in LOSSES.items():
        assert float(losses[ours]) == pytest.approx(float(recorded.data[f"loss/{theirs}"]), rel=1e-4), ours
    sum(losses.values()).backward()
    names = {ours: theirs for ours, (theirs, _) in CENTERMASK2.rename(foreign_checkpoint("cm2_v39")).items()}
    norms = {names[name]: np.linalg.norm(p.grad.numpy()) for name, p in trainable_parameters(network).items()}
    expected = [key[len("gradnorm/") :] for key in recorded.data.files if key.startswith("gradnorm/")]
    assert len(expected) > 15
    for name in expected:
        assert norms[name] == pytest.approx(float(recorded.data[f"gradnorm/{name}"]), rel=1e-3), name
    total = np.linalg.norm(list(norms.values()))
    assert total == pytest.approx(float(recorded.data["all_gradnorm"]), rel=1e-3)
