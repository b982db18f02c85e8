"""Name tables: the parameter names of other programs, translated to ours."""

from __future__ import annotations

from collections.abc import Sequence

from convert.conversion import NameTable
from model.backbone.mobilenetv2 import STAGE_BLOCKS as MOBILENET_BLOCKS
from model.backbone.mobilenetv3 import STAGES as MOBILENETV3_STAGES
from model.backbone.resnet import STAGE_BLOCKS
from model.backbone.vovnet import STAGE_BLOCKS as VOVNET_BLOCKS


def first_blocks(stage_blocks: Sequence[int]) -> list[int]:
    """Return the number of blocks before each stage."""
    return [sum(stage_blocks[:stage]) for stage in range(len(stage_blocks))]


_TORCH_STATISTICS = (
    (r"\.running_mean$", "._mean"),
    (r"\.running_var$", "._variance"),
)
# The names of torchvision's ResNet, which mmdet kept.
_TORCH_BACKBONE = (
    (r"^backbone\.conv1\.", "backbone.stem.0.conv."),
    (r"^backbone\.bn1\.", "backbone.stem.0.norm."),
    *((rf"^backbone\.layer{index + 1}\.", f"backbone.stages.{index}.") for index in range(4)),
    (r"\.downsample\.0\.", ".shortcut.projection.conv."),
    (r"\.downsample\.1\.", ".shortcut.projection.norm."),
    (r"^(backbone\.stages\..*)\.conv(\d)\.conv_offset\.", r"\1.conv\2.conv.offset."),
    (r"^(backbone\.stages\..*)\.conv(\d)_offset\.", r"\1.conv\2.conv.offset."),  # of older files
    (r"^(backbone\.stages\..*)\.conv(\d)\.weight$", r"\1.conv\2.conv.weight"),
    (r"^(backbone\.stages\..*)\.bn(\d)\.", r"\1.conv\2.norm."),
    *_TORCH_STATISTICS,
)
_TORCH_COUNTER = r"\.num_batches_tracked$"

SOLO = NameTable(
    program="the original SOLO",
    renames=(
        *_TORCH_BACKBONE,
        (r"^neck\.lateral_convs\.(\d)\.conv\.", r"neck.lateral_convs.\1."),
        (r"^neck\.fpn_convs\.(\d)\.conv\.", r"neck.output_convs.\1."),
        (r"^mask_feat_head\.convs_all_levels\.(\d)\.conv(\d)\.", r"mask_feat_head.levels.\1.\2."),
        (r"^mask_feat_head\.conv_pred\.0\.", "mask_feat_head.pred."),
        (r"^bbox_head\.d?solo_(cate|kernel)\.", r"head.\1_pred."),
        (r"^bbox_head\.ins_convs_([xy])\.", r"head.\1_convs."),
        (r"^bbox_head\.ins_convs\.", "head.mask_convs."),
        (r"^bbox_head\.solo_ins_list\.", "head.mask_preds."),
        (r"^bbox_head\.dsolo_ins_list_([xy])\.", r"head.\1_preds."),
        (r"^bbox_head\.", "head."),
        (r"\.conv\.conv_offset\.", ".conv.offset."),
        (r"\.gn\.", ".norm."),
    ),
    ignored=(_TORCH_COUNTER,),
)

OPENFIREWORK = NameTable(
    program="OpenFirework's pytorch_solov2",
    renames=(
        (r"^fpn\.(\w+)_convs\.(\d)\.", r"neck.\1_convs.\2.conv."),
        (r"^(bbox_head\.\w+_convs\.\d|mask_feat_head\.convs_all_levels\.\d\.conv\d)\.0\.", r"\1.conv."),
        (r"^(bbox_head\.\w+_convs\.\d|mask_feat_head\.convs_all_levels\.\d\.conv\d)\.1\.", r"\1.gn."),
        (r"^mask_feat_head\.conv_pred\.0\.", "mask_feat_head.conv_pred.0.conv."),
        (r"^mask_feat_head\.conv_pred\.1\.", "mask_feat_head.conv_pred.0.gn."),
        *SOLO.renames,
    ),
    ignored=SOLO.ignored,
)

TORCHVISION = NameTable(
    program="torchvision", renames=((r"^", "backbone."), *_TORCH_BACKBONE), ignored=(_TORCH_COUNTER, r"^fc\.")
)

# In detectron2's VoVNet, slashes are part of the names; OSA4_2 is the second block of the third stage.
_VOVNET = (
    *((rf"^backbone\.stem\.stem_{index + 1}/", f"backbone.stem.{index}.") for index in range(3)),
    *(
        (rf"^backbone\.stage\d\.OSA{stage + 2}_{block + 1}\.", f"backbone.stages.{stage}.{block}.")
        for stage in range(4)
        for block in range(max(blocks[stage] for blocks in VOVNET_BLOCKS.values()))
    ),
    (r"\.layers\.(\d)\.\w+/", r".chain.\1."),
    (r"\.conv_reduction\.\w+/", ".reduction."),
    (r"\.concat\.\w+/", ".concat."),
    (r"^(backbone\..*)\.conv_offset\.", r"\1.conv.offset."),
    (r"\.dw_conv3x3\.", ".depthwise."),
    (r"\.pw_conv1x1\.", ".pointwise.conv."),
    (r"\.pw_norm\.", ".pointwise.norm."),
    *_TORCH_STATISTICS,
)

# The program numbers all modules of a MobileNetV2 and of its blocks: convolution, norm and ReLU6. The first block,
# features.1, has no 1x1 convolution before the depthwise one.
_MOBILENET = (
    (r"^backbone\.features\.0\.0\.", "backbone.stem.conv."),
    (r"^backbone\.features\.0\.1\.", "backbone.stem.norm."),
    *(
        (rf"^(backbone\.features\.{features})\.conv\.{3 * index + place}\.", rf"\1.{layer}.{part}.")
        for features, layers in (("1", ("depthwise", "project")), (r"\d+", ("expand", "depthwise", "project")))
        for index, layer in enumerate(layers)
        for place, part in enumerate(("conv", "norm"))
    ),
    *(
        (rf"^backbone\.features\.{1 + first + block}\.", f"backbone.stages.{stage}.{block}.")
        for stage, first in enumerate(first_blocks(MOBILENET_BLOCKS))
        for block in range(MOBILENET_BLOCKS[stage])
    ),
    *_TORCH_STATISTICS,
)

CENTERMASK2 = NameTable(
    program="CenterMask2",
    renames=(
        *((rf"^backbone\.fpn_(lateral|output){level + 3}\.", rf"neck.\1_convs.{level}.") for level in range(3)),
        (r"^backbone\.top_block\.", "neck."),
        (r"^backbone\.bottom_up\.", "backbone."),
        *_VOVNET,
        *_MOBILENET,
        (r"^proposal_generator\.fcos_head\.", "head."),
        (r"^head\.cls_tower\.", "head.cate_convs."),
        (r"^head\.bbox_tower\.", "head.box_convs."),
        # Each layer of a tower is three numbered modules: convolution, norm and ReLU.
        *((rf"^(head\.\w+_convs)\.{3 * layer}\.", rf"\1.layer{layer}.conv.") for layer in range(4)),
        *((rf"^(head\.\w+_convs)\.{3 * layer + 1}\.", rf"\1.layer{layer}.norm.") for layer in range(4)),
        (r"\.layer(\d)\.", r".\1."),
        (r"^head\.cls_logits\.", "head.cate_pred."),
        (r"^head\.bbox_pred\.", "head.box_pred."),
        (r"^head\.ctrness\.", "head.centre_pred."),
        (r"^head\.scales\.(\d)\.scale$", r"head.scales.\1"),
        (r"^roi_heads\.mask_head\.", "roi_head.mask_head."),
        (r"^roi_heads\.maskiou_head\.", "roi_head.iou_head."),
        *((rf"\.mask(iou)?_fcn{layer + 1}\.", f".convs.{layer}.") for layer in range(4)),
        *((rf"\.maskiou_fc{layer + 1}\.", f".fcs.{layer}.") for layer in range(2)),
        (r"\.(predictor|maskiou)\.", ".pred."),
        (r"\.spatialAtt\.conv\.", ".attention."),
    ),
    ignored=(_TORCH_COUNTER, r"^pixel_(mean|std)$"),
    transposed=(r"^roi_head\.iou_head\.(fcs\.\d|pred)\.weight$",),
)

VOVNET = NameTable(
    program="VoVNet's classifier",
    renames=((r"^(backbone\.bottom_up\.)?", "backbone."), *_VOVNET),
    ignored=(_TORCH_COUNTER, r"^(classifier|fc|linear)\."),
)

# The last 1x1 convolution is a part of the classifier.
MOBILENET = NameTable(
    program="MobileNetV2's classifier",
    renames=((r"^(backbone\.bottom_up\.)?", "backbone."), *_MOBILENET),
    ignored=(_TORCH_COUNTER, r"^(backbone\.bottom_up\.)?(features\.18|conv|classifier|fc|linear)\."),
)

# In Paddle's programs res4c is the third block of the third stage; in ResNet-101 its name is res4b2.
_PADDLE_BLOCKS = (
    *((rf"^res{stage}b(\d+)[._]", rf"backbone.stages.{stage - 2}.\1.") for stage in range(2, 6)),
    *(
        (rf"^res{stage}{letter}[._]", f"backbone.stages.{stage - 2}.{index}.")
        for stage in range(2, 6)
        for index, letter in enumerate("abcdef")
    ),
    *((rf"\.branch2{letter}\.", f".conv{index}.") for index, letter in enumerate("abc", start=1)),
    (r"\.(branch1|short)\.", ".shortcut.projection."),
)
_PADDLE_NECK = (
    *((rf"^fpn_inner_res{level + 2}_sum(_lateral)?\.", f"neck.lateral_convs.{level}.") for level in range(4)),
    *((rf"^fpn_res{level + 2}_sum\.", f"neck.output_convs.{level}.") for level in range(4)),
    *((rf"^fpn_inner_mv3_{level}(_lateral)?\.", f"neck.lateral_convs.{level}.") for level in range(4)),
    *((rf"^fpn_mv3_{level}\.", f"neck.output_convs.{level}.") for level in range(4)),
)
_PPDET_2_BACKBONE = (
    (r"^conv1\.conv1\.", "backbone.stem.0."),
    *((rf"^conv1\.conv1_{index + 1}\.", f"backbone.stem.{index}.") for index in range(3)),
    (r"^res\d\.", ""),
    (r"\.short\.conv\.(conv|norm)\.", r".short.\1."),  # follows a pooling layer in variant d
    *_PADDLE_BLOCKS,
    (r"^(backbone\..*)\.conv_offset\.", r"\1.conv.offset."),
)

PPDET_2 = NameTable(
    program="PaddleDetection 2.x",
    renames=(
        (r"^(backbone|neck)\.", ""),
        *_PPDET_2_BACKBONE,
        *_PADDLE_NECK,
        (r"^mask_head\.conv_pre_feat\d\.mask_feat_head\.convs_all_levels\.", "mask_feat_head.levels."),
        (r"^mask_feat_head\.levels\.(\d)\.conv(\d)\.", r"mask_feat_head.levels.\1.\2."),
        (r"^mask_head\.mask_feat_head\.conv_pred\.0\.", "mask_feat_head.pred."),
        (r"^solov2_head\.bbox_head\.solo_(cate|kernel)\.", r"head.\1_pred."),
        (r"^solov2_head\.bbox_head\.", "head."),
        (r"\.conv\.conv_dcn\.", ".conv."),
        (r"\.conv\.conv_offset\.", ".conv.offset."),
    ),
    ignored=(r"^solov2_head\.solo_(cate|kernel)\.", r"^mask_head\.conv_pred\."),  # second names of the same tensors
    overrides=("data.normalize_first=true", "data.resize_by=size", "data.crop_masks=rounded"),
)

_STATIC_LEAVES = (
    (r"_se_1_weights$", ".attention.squeeze.weight"),
    (r"_se_1_offset$", ".attention.squeeze.bias"),
    (r"_se_2_weights$", ".attention.excite.weight"),
    (r"_se_2_offset$", ".attention.excite.bias"),
    (r"_conv_offset\.w_0$", ".conv.offset.weight"),
    (r"_conv_offset\.b_0$", ".conv.offset.bias"),
    (r"_weights$", ".conv.weight"),
    (r"_scale$", ".norm.weight"),
    (r"_offset$", ".norm.bias"),
    (r"_(mean|variance)$", r".norm._\1"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
)
# In PaddleClas' MobileNetV3 conv2 to conv16 are the blocks.
_MOBILENETV3 = (
    (r"^(conv\w+)_bn\.", r"\1."),
    *(
        (rf"^conv{sum(map(len, MOBILENETV3_STAGES[:stage])) + block + 2}[._]", f"backbone.stages.{stage}.{block}.")
        for stage, blocks in enumerate(MOBILENETV3_STAGES)
        for block in range(len(blocks))
    ),
    (r"^(backbone\.stages\..*)\.linear\.", r"\1.project."),
    (r"^conv_last\.", "backbone.last."),
)
_STATIC_BACKBONE = (
    *_STATIC_LEAVES,
    *_MOBILENETV3,
    (r"^bn(\d)", r"res\1"),
    (r"^(bn_)?conv1\.", "backbone.stem.0."),
    *((rf"^(bnv|conv)1_{index + 1}\.", f"backbone.stem.{index}.") for index in range(3)),
    *_PADDLE_BLOCKS,
)

PPDET_0_5 = NameTable(
    program="PaddleDetection 0.5",
    renames=(
        *_STATIC_BACKBONE,
        *_PADDLE_NECK,
        (r"^mask_feat_head\.convs_all_levels\.(\d)\.conv(\d)\.", r"mask_feat_head.levels.\1.\2."),
        (r"^mask_feat_head\.conv_pred\.0\.", "mask_feat_head.pred."),
        (r"^bbox_head\.solo_(cate|kernel)\.", r"head.\1_pred."),
        (r"^bbox_head\.", "head."),
        (r"\.gn\.norm\.", ".norm."),
    ),
    overrides=("data.normalize_first=false", "data.resize_by=factor", "data.crop_masks=truncated"),
)

_CLAS_LAYERS = (
    *((rf"\.conv{index}\.", f".conv{index + 1}.") for index in (2, 1, 0)),
    (r"\.short\.", ".shortcut.projection."),
    (r"\._?conv\.weight$", ".conv.weight"),
    (r"\.(bn|_batch_norm)\.", ".norm."),
)

# ResNet50_vd_ssld has been published by three generations of PaddleClas and, as a backbone, by PaddleDetection.
SSLD = (
    NameTable(program="PaddleClas 1.x", renames=_STATIC_BACKBONE, ignored=(r"^(fc|last_1x1_conv)_",)),
    NameTable(
        program="PaddleClas 2.0",
        renames=(
            *((rf"^conv1_{index + 1}\.", f"backbone.stem.{index}.") for index in range(3)),
            (r"^bb_(\d)_(\d)\.", r"backbone.stages.\1.\2."),
            *_CLAS_LAYERS,
        ),
        ignored=(r"^out\.",),
    ),
    NameTable(
        program="PaddleClas 2.x",
        renames=(
            (r"^stem\.", "backbone.stem."),
            *(
                (rf"^blocks\.{first + block}\.", f"backbone.stages.{stage}.{block}.")
                for stage, first in enumerate(first_blocks(STAGE_BLOCKS[50]))
                for block in range(STAGE_BLOCKS[50][stage])
            ),
            *_CLAS_LAYERS,
        ),
        ignored=(r"^fc\.",),
    ),
    NameTable(program="PaddleDetection 2.x", renames=_PPDET_2_BACKBONE, ignored=(r"^fc\.",)),
)
