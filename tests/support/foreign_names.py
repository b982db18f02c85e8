"""The names that other programs give to the parameters of our networks, to write checkpoints of theirs in tests.

Each function takes our names and returns a dict from our names to theirs. `tests/convert/test_names.py` compares them
with recorded names of the programs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

Names = dict[str, str]

_BACKBONE = r"^(backbone\..*)"


def solo(ours: Collection[str]) -> Names:
    kind = "dsolo" if "head.x_preds.0.weight" in ours else "solo"
    return _renamed(
        ours,
        *_TORCH_RULES,
        (r"^neck\.(lateral|output)_convs\.(\d)", lambda m: f"neck.{_FPN[m[1]]}_convs.{m[2]}.conv"),
        (r"^mask_feat_head\.levels\.(\d)\.(\d)", r"mask_feat_head.convs_all_levels.\1.conv\2"),
        (r"^mask_feat_head\.pred", "mask_feat_head.conv_pred.0"),
        (r"^head\.(cate|kernel)_pred\.", rf"bbox_head.{kind}_\1."),
        (r"^head\.([xy])_convs", r"bbox_head.ins_convs_\1"),
        (r"^head\.([xy])_preds", r"bbox_head.dsolo_ins_list_\1"),
        (r"^head\.mask_convs", "bbox_head.ins_convs"),
        (r"^head\.mask_preds", "bbox_head.solo_ins_list"),
        (r"^head", "bbox_head"),
        (r"\.conv\.offset", ".conv.conv_offset"),
        (r"\.norm\.", ".gn."),
    )


def openfirework(ours: Collection[str]) -> Names:
    rules = (
        (r"^neck\.(\w+\.\d)\.conv", r"fpn.\1"),
        (r"(conv_pred)\.0\.conv", r"\1.0"),
        (r"(conv_pred)\.0\.gn", r"\1.1"),
        (r"^((bbox|mask_feat)_head\..*)\.conv\.", r"\1.0."),
        (r"^((bbox|mask_feat)_head\..*)\.gn\.", r"\1.1."),
    )
    return {name: _replaced(theirs, rules) for name, theirs in solo(ours).items()}


def torchvision(ours: Collection[str]) -> Names:
    return _renamed(ours, *_TORCH_RULES, (r"^backbone\.", ""))


def ppdet_2(ours: Collection[str]) -> Names:
    stem = "conv1_{}" if _has_deep_stem(ours) else "conv1"
    deformable = {name[: -len(".offset.weight")] for name in ours if name.endswith(".offset.weight")}
    names = _renamed(
        ours,
        (r"^backbone\.stem\.(\d)", lambda m: f"backbone.conv1.{stem.format(int(m[1]) + 1)}"),
        (r"^backbone\.stages\.(\d)\.(\d+)", lambda m: f"backbone.res{int(m[1]) + 2}.{_block(m, ours)}"),
        (_BACKBONE + r"\.conv\.offset", r"\1.conv_offset"),
        (r"^(backbone\.res.*)\.conv(\d)\.", lambda m: f"{m[1]}.branch2{_letter(int(m[2]) - 1)}."),
        # Variant d pools before the projection of blocks with stride 2, which are in all stages except the first.
        (r"(res[345]\w+)\.shortcut\.projection", r"\1.short.conv" if _has_deep_stem(ours) else r"\1.short"),
        (r"\.shortcut\.projection", ".short"),
        (r"^neck\.(lateral|output)_convs\.(\d)", lambda m: f"neck.{_paddle_level(m, ours)}"),
        (r"^mask_feat_head\.levels\.(\d)\.", r"mask_head.conv_pre_feat\1.mask_feat_head.convs_all_levels.\1.conv"),
        (r"^mask_feat_head\.pred", "mask_head.mask_feat_head.conv_pred.0"),
        (r"^head\.(cate|kernel)_pred", r"solov2_head.bbox_head.solo_\1"),
        (r"^head", "solov2_head.bbox_head"),
        (r"^((mask|solov2)_head\..*\.conv)\.offset", r"\1.conv_offset"),
    )
    for name in ours:
        if name.rpartition(".")[0] in deformable and not name.startswith("backbone"):
            names[name] = re.sub(r"\.conv\.(weight|bias)$", r".conv.conv_dcn.\1", names[name])
    return names


def ppdet_0_5(ours: Collection[str]) -> Names:
    return _renamed(
        ours,
        *_static_rules(ours),
        (r"^neck\.(lateral|output)_convs\.(\d)\.(\w)\w+", lambda m: f"{_paddle_level(m, ours)}_{m[3]}"),
        (r"^mask_feat_head\.levels\.(\d)\.(\d)", r"mask_feat_head.convs_all_levels.\1.conv\2"),
        (r"^mask_feat_head\.pred", "mask_feat_head.conv_pred.0"),
        (r"^head\.(cate|kernel)_pred", r"bbox_head.solo_\1"),
        (r"^head", "bbox_head"),
        (r"\.norm\.weight$", ".gn_scale"),
        (r"\.norm\.bias$", ".gn_offset"),
    )


def clas_1(ours: Collection[str]) -> Names:
    return _renamed(ours, *_static_rules(ours))


def clas_2_0(ours: Collection[str]) -> Names:
    return _renamed(
        ours,
        (r"\.conv(\d)\.", lambda m: f".conv{int(m[1]) - 1}."),
        (r"^backbone\.stem\.(\d)", lambda m: f"conv1_{int(m[1]) + 1}"),
        (r"^backbone\.stages\.(\d)\.(\d)", r"bb_\1_\2"),
        (r"\.shortcut\.projection\.", ".short."),
        (r"\.conv\.", "._conv."),
        (r"\.norm\.", "._batch_norm."),
    )


def clas_2(ours: Collection[str]) -> Names:
    """Return the names of PaddleClas since 2.1, for ResNet-50."""
    return _renamed(
        ours,
        (r"\.conv(\d)\.", lambda m: f".conv{int(m[1]) - 1}."),
        (r"^backbone\.stages\.(\d)\.(\d)", lambda m: f"blocks.{(0, 3, 7, 13)[int(m[1])] + int(m[2])}"),
        (r"^backbone\.", ""),
        (r"\.shortcut\.projection\.", ".short."),
        (r"\.norm\.", ".bn."),
    )


def centermask2(ours: Collection[str]) -> Names:
    return _renamed(
        ours,
        (r"^backbone", "backbone.bottom_up"),
        *(_MOBILENET_RULES if "backbone.stem.conv.weight" in ours else _VOVNET_RULES),
        (r"^neck\.(lateral|output)_convs\.(\d)", lambda m: f"backbone.fpn_{m[1]}{int(m[2]) + 3}"),
        (r"^neck\.(p\d)", r"backbone.top_block.\1"),
        (r"^head\.(cate|box)_convs\.(\d)\.(conv|norm)", _tower_layer),
        (r"^head\.cate_pred", "head.cls_logits"),
        (r"^head\.box_pred", "head.bbox_pred"),
        (r"^head\.centre_pred", "head.ctrness"),
        (r"^head\.scales\.(\d)", r"head.scales.\1.scale"),
        (r"^head", "proposal_generator.fcos_head"),
        (r"^roi_head\.(mask|iou)_head\.convs\.(\d)", lambda m: f"{_ROI[m[1]]}_fcn{int(m[2]) + 1}"),
        (r"^roi_head\.iou_head\.fcs\.(\d)", lambda m: f"{_ROI['iou']}_fc{int(m[1]) + 1}"),
        (r"^roi_head\.iou_head\.pred", _ROI["iou"]),
        (r"^roi_head\.mask_head\.attention", "roi_heads.mask_head.spatialAtt.conv"),
        (r"^roi_head\.mask_head\.pred", "roi_heads.mask_head.predictor"),
        (r"^roi_head\.", "roi_heads."),
    )


def stored_array(ours: str, array: np.ndarray) -> np.ndarray:
    """Return a parameter of ours as a file of torch stores it: fully connected layers are transposed, (out, in)."""
    is_linear = re.search(r"\.iou_head\.(fcs\.\d|pred)\.weight$", ours)
    return np.ascontiguousarray(array.T) if is_linear else array


def vovnet(ours: Collection[str]) -> Names:
    return _renamed(ours, *_VOVNET_RULES, (r"^backbone\.", ""))


def mobilenet(ours: Collection[str]) -> Names:
    return _renamed(ours, *_MOBILENET_RULES, (r"^backbone\.", ""))


def _renamed(ours: Collection[str], *rules: tuple) -> Names:
    return {name: _replaced(name, rules) for name in ours}


def _replaced(name: str, rules: Sequence[tuple]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


_FPN = {"lateral": "lateral", "output": "fpn"}
_TORCH_RULES = (
    (r"^backbone\.stem\.0\.conv", "backbone.conv1"),
    (r"^backbone\.stem\.0\.norm", "backbone.bn1"),
    (r"^backbone\.stages\.(\d)", lambda m: f"backbone.layer{int(m[1]) + 1}"),
    (r"\.shortcut\.projection\.conv", ".downsample.0"),
    (r"\.shortcut\.projection\.norm", ".downsample.1"),
    (_BACKBONE + r"\.conv(\d)\.norm", r"\1.bn\2"),
    (_BACKBONE + r"\.conv(\d)\.conv\.offset", r"\1.conv\2.conv_offset"),
    (_BACKBONE + r"\.conv(\d)\.conv\.weight", r"\1.conv\2.weight"),
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
)


_ROI = {"mask": "roi_heads.mask_head.mask", "iou": "roi_heads.maskiou_head.maskiou"}
_VOVNET_RULES = (
    (r"^(backbone.*)\.stem\.(\d)\.", lambda m: f"{m[1]}.stem.stem_{int(m[2]) + 1}/"),
    (r"^(backbone.*)\.stages\.(\d)\.(\d)\.", lambda m: f"{m[1]}.stage{int(m[2]) + 2}.{_osa(m[2], m[3])}."),
    (r"(OSA\d_\d)\.chain\.(\d)\.", r"\1.layers.\2.\1_\2/"),
    (r"(OSA\d_\d)\.reduction\.", r"\1.conv_reduction.\1_reduction_0/"),
    (r"(OSA.*/)conv\.offset\.", r"\1conv_offset."),
    (r"/depthwise\.", "/dw_conv3x3."),
    (r"/pointwise\.conv\.", "/pw_conv1x1."),
    (r"/pointwise\.norm\.", "/pw_norm."),
    (r"(OSA\d_\d)\.concat\.", r"\1.concat.\1_concat/"),
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
)


_MOBILENET_RULES = (
    (r"^(backbone.*)\.stem\.(conv|norm)\.", lambda m: f"{m[1]}.features.0.{int(m[2] == 'norm')}."),
    (
        r"^(backbone.*)\.stages\.(\d)\.(\d)\.(\w+)\.(conv|norm)\.",
        lambda m: f"{m[1]}.features.{_feature(m)}.conv.{_module(m)}.",
    ),
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
)


def _feature(match: re.Match) -> int:
    """Return the number of a block among all of a MobileNetV2; the stem has number 0."""
    return (1, 4, 7, 14)[int(match[2])] + int(match[3])


def _module(match: re.Match) -> int:
    """Return the place of a layer in a block of MobileNetV2: convolution, norm and ReLU6 count."""
    layers = ("expand", "depthwise", "project")[int(_feature(match) == 1) :]
    return 3 * layers.index(match[4]) + (match[5] == "norm")


def _osa(stage: str, block: str) -> str:
    return f"OSA{int(stage) + 2}_{int(block) + 1}"


def _tower_layer(match: re.Match) -> str:
    """Return the name of a tower's layer; the index counts convolution, norm and ReLU."""
    tower = {"cate": "cls_tower", "box": "bbox_tower"}[match[1]]
    return f"head.{tower}.{3 * int(match[2]) + (match[3] == 'norm')}"


def _static_rules(ours: Collection[str]) -> tuple[tuple, ...]:
    """Return the rules for variables of a static program: the backbone, and the leaves of all convolutions."""
    if _is_mobilenetv3(ours):
        return _MOBILENETV3_RULES
    conv, norm = ("conv1_{}", "bnv1_{}") if _has_deep_stem(ours) else ("conv1", "bn_conv1")
    leaves = {"weight": "scale", "bias": "offset", "_mean": "mean", "_variance": "variance"}
    return (
        (r"^backbone\.stem\.(\d)\.conv", lambda m: f"{conv.format(int(m[1]) + 1)}.conv"),
        (r"^backbone\.stem\.(\d)\.norm\.(\w+)", lambda m: f"{norm.format(int(m[1]) + 1)}_{leaves[m[2]]}"),
        (r"^backbone\.stages\.(\d)\.(\d+)", lambda m: _block(m, ours)),
        (r"^(res\w+)\.shortcut\.projection", r"\1_branch1"),
        (r"^(res\w+)\.conv(\d)", lambda m: f"{m[1]}_branch2{_letter(int(m[2]) - 1)}"),
        (r"^res(\w+)\.norm\.(\w+)", lambda m: f"bn{m[1]}_{leaves[m[2]]}"),
        (r"\.conv\.offset\.(\w)\w+$", r"_conv_offset.\1_0"),
        (r"\.conv\.weight$", "_weights"),
    )


_MOBILENETV3_RULES = (
    (r"^backbone\.stem\.0", "conv1"),
    (r"^backbone\.stages\.(\d)\.(\d)", lambda m: f"conv{(2, 5, 8, 14)[int(m[1])] + int(m[2])}"),
    (r"^backbone\.last", "conv_last"),
    (r"^(conv\d+)\.attention\.(squeeze|excite)", lambda m: f"{m[1]}_se_{1 if m[2] == 'squeeze' else 2}"),
    (r"(_se_\d)\.weight$", r"\1_weights"),
    (r"(_se_\d)\.bias$", r"\1_offset"),
    (r"^(conv\d+)\.project", r"\1_linear"),
    (r"^(conv\d+)\.(expand|depthwise)", r"\1_\2"),
    (r"^(conv\w+)\.norm\.weight$", r"\1_bn_scale"),
    (r"^(conv\w+)\.norm\.bias$", r"\1_bn_offset"),
    (r"^(conv\w+)\.norm\._", r"\1_bn_"),
    (r"\.conv\.weight$", "_weights"),
)


def _is_mobilenetv3(ours: Collection[str]) -> bool:
    return "backbone.last.conv.weight" in ours


def _block(match: re.Match, ours: Collection[str]) -> str:
    """Return the name of block `match[2]` of stage `match[1]`: res4c, but res4b2 in ResNet-101."""
    stage, block = int(match[1]), int(match[2])
    is_long = f"backbone.stages.{stage}.10.conv1.conv.weight" in ours
    return f"res{stage + 2}{f'b{block}' if is_long and block else _letter(block)}"


def _paddle_level(match: re.Match, ours: Collection[str]) -> str:
    inner, level = match[1] == "lateral", int(match[2])
    suffix = "_lateral" if inner and level < 3 else ""
    name = f"mv3_{level}" if _is_mobilenetv3(ours) else f"res{level + 2}_sum"
    return f"fpn_{'inner_' if inner else ''}{name}{suffix}"


def _has_deep_stem(ours: Collection[str]) -> bool:
    return "backbone.stem.2.conv.weight" in ours


def _letter(index: int) -> str:
    return "abcdef"[index]
