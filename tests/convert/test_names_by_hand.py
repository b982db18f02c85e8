"""Single names in other programs' checkpoints and the names of ours that they are mapped to."""

from __future__ import annotations

import numpy as np
import pytest

from config import registry
from convert.conversion import network_shapes
from convert.names import CENTERMASK2, MOBILENET, OPENFIREWORK, PPDET_0_5, PPDET_2, SOLO, SSLD, TORCHVISION, VOVNET

CLAS_1, CLAS_2_0, CLAS_2, PPDET_2_BACKBONE = SSLD

# Names of each program and ours, copied from the sources of the programs.
BY_HAND = {
    SOLO: """
        backbone.conv1.weight                                     backbone.stem.0.conv.weight
        backbone.bn1.weight                                       backbone.stem.0.norm.weight
        backbone.bn1.running_mean                                 backbone.stem.0.norm._mean
        backbone.bn1.running_var                                  backbone.stem.0.norm._variance
        backbone.layer1.0.conv1.weight                            backbone.stages.0.0.conv1.conv.weight
        backbone.layer1.0.downsample.0.weight                     backbone.stages.0.0.shortcut.projection.conv.weight
        backbone.layer2.0.downsample.1.bias                       backbone.stages.1.0.shortcut.projection.norm.bias
        backbone.layer2.0.downsample.1.running_var                backbone.stages.1.0.shortcut.projection.norm._variance
        backbone.layer3.22.conv3.weight                           backbone.stages.2.22.conv3.conv.weight
        backbone.layer3.22.bn2.running_mean                       backbone.stages.2.22.conv2.norm._mean
        backbone.layer3.22.conv2.weight                           backbone.stages.2.22.conv2.conv.weight
        backbone.layer3.22.conv2.conv_offset.weight               backbone.stages.2.22.conv2.conv.offset.weight
        backbone.layer3.22.conv2.conv_offset.bias                 backbone.stages.2.22.conv2.conv.offset.bias
        backbone.layer4.2.conv2_offset.weight                     backbone.stages.3.2.conv2.conv.offset.weight
        backbone.layer4.2.conv2_offset.bias                       backbone.stages.3.2.conv2.conv.offset.bias
        neck.lateral_convs.0.conv.weight                          neck.lateral_convs.0.weight
        neck.lateral_convs.3.conv.bias                            neck.lateral_convs.3.bias
        neck.fpn_convs.2.conv.weight                              neck.output_convs.2.weight
        mask_feat_head.convs_all_levels.0.conv0.conv.weight       mask_feat_head.levels.0.0.conv.weight
        mask_feat_head.convs_all_levels.3.conv2.gn.bias           mask_feat_head.levels.3.2.norm.bias
        mask_feat_head.convs_all_levels.2.conv1.conv.conv_offset.bias  mask_feat_head.levels.2.1.conv.offset.bias
        mask_feat_head.conv_pred.0.conv.weight                    mask_feat_head.pred.conv.weight
        mask_feat_head.conv_pred.0.conv.conv_offset.weight        mask_feat_head.pred.conv.offset.weight
        mask_feat_head.conv_pred.0.gn.weight                      mask_feat_head.pred.norm.weight
        bbox_head.cate_convs.3.conv.weight                        head.cate_convs.3.conv.weight
        bbox_head.kernel_convs.0.gn.bias                          head.kernel_convs.0.norm.bias
        bbox_head.kernel_convs.2.conv.conv_offset.weight          head.kernel_convs.2.conv.offset.weight
        bbox_head.solo_cate.bias                                  head.cate_pred.bias
        bbox_head.solo_kernel.weight                              head.kernel_pred.weight
        bbox_head.ins_convs.6.gn.bias                             head.mask_convs.6.norm.bias
        bbox_head.solo_ins_list.4.bias                            head.mask_preds.4.bias
        bbox_head.dsolo_cate.weight                               head.cate_pred.weight
        bbox_head.ins_convs_x.0.conv.weight                       head.x_convs.0.conv.weight
        bbox_head.ins_convs_y.6.gn.weight                         head.y_convs.6.norm.weight
        bbox_head.ins_convs.3.conv.conv_offset.weight             head.mask_convs.3.conv.offset.weight
        bbox_head.dsolo_ins_list_x.1.weight                       head.x_preds.1.weight
        bbox_head.dsolo_ins_list_y.4.bias                         head.y_preds.4.bias
    """,
    OPENFIREWORK: """
        backbone.conv1.weight                                     backbone.stem.0.conv.weight
        backbone.bn1.bias                                         backbone.stem.0.norm.bias
        backbone.bn1.running_var                                  backbone.stem.0.norm._variance
        backbone.layer1.1.conv2.weight                            backbone.stages.0.1.conv2.conv.weight
        backbone.layer2.0.downsample.0.weight                     backbone.stages.1.0.shortcut.projection.conv.weight
        backbone.layer2.0.downsample.1.running_mean               backbone.stages.1.0.shortcut.projection.norm._mean
        backbone.layer3.5.bn1.weight                              backbone.stages.2.5.conv1.norm.weight
        backbone.layer4.2.bn2.running_var                         backbone.stages.3.2.conv2.norm._variance
        fpn.lateral_convs.0.weight                                neck.lateral_convs.0.weight
        fpn.lateral_convs.3.bias                                  neck.lateral_convs.3.bias
        fpn.fpn_convs.0.weight                                    neck.output_convs.0.weight
        fpn.fpn_convs.3.bias                                      neck.output_convs.3.bias
        mask_feat_head.convs_all_levels.0.conv0.0.weight          mask_feat_head.levels.0.0.conv.weight
        mask_feat_head.convs_all_levels.0.conv0.1.weight          mask_feat_head.levels.0.0.norm.weight
        mask_feat_head.convs_all_levels.1.conv0.0.weight          mask_feat_head.levels.1.0.conv.weight
        mask_feat_head.convs_all_levels.3.conv1.0.weight          mask_feat_head.levels.3.1.conv.weight
        mask_feat_head.convs_all_levels.3.conv2.1.bias            mask_feat_head.levels.3.2.norm.bias
        mask_feat_head.conv_pred.0.weight                         mask_feat_head.pred.conv.weight
        mask_feat_head.conv_pred.1.weight                         mask_feat_head.pred.norm.weight
        mask_feat_head.conv_pred.1.bias                           mask_feat_head.pred.norm.bias
        bbox_head.cate_convs.0.0.weight                           head.cate_convs.0.conv.weight
        bbox_head.cate_convs.1.1.bias                             head.cate_convs.1.norm.bias
        bbox_head.kernel_convs.0.0.weight                         head.kernel_convs.0.conv.weight
        bbox_head.kernel_convs.1.1.weight                         head.kernel_convs.1.norm.weight
        bbox_head.solo_cate.weight                                head.cate_pred.weight
        bbox_head.solo_kernel.bias                                head.kernel_pred.bias
    """,
    TORCHVISION: """
        conv1.weight                                              backbone.stem.0.conv.weight
        bn1.weight                                                backbone.stem.0.norm.weight
        bn1.bias                                                  backbone.stem.0.norm.bias
        bn1.running_mean                                          backbone.stem.0.norm._mean
        bn1.running_var                                           backbone.stem.0.norm._variance
        layer1.0.conv1.weight                                     backbone.stages.0.0.conv1.conv.weight
        layer1.0.bn3.weight                                       backbone.stages.0.0.conv3.norm.weight
        layer1.0.downsample.0.weight                              backbone.stages.0.0.shortcut.projection.conv.weight
        layer2.0.downsample.1.bias                                backbone.stages.1.0.shortcut.projection.norm.bias
        layer2.0.downsample.1.running_mean                        backbone.stages.1.0.shortcut.projection.norm._mean
        layer2.3.conv3.weight                                     backbone.stages.1.3.conv3.conv.weight
        layer3.5.conv2.weight                                     backbone.stages.2.5.conv2.conv.weight
        layer3.22.bn1.running_var                                 backbone.stages.2.22.conv1.norm._variance
        layer4.2.bn2.bias                                         backbone.stages.3.2.conv2.norm.bias
        layer4.2.conv3.weight                                     backbone.stages.3.2.conv3.conv.weight
    """,
    PPDET_2: """
        backbone.conv1.conv1.conv.weight                          backbone.stem.0.conv.weight
        backbone.conv1.conv1.norm._mean                           backbone.stem.0.norm._mean
        backbone.conv1.conv1_1.conv.weight                        backbone.stem.0.conv.weight
        backbone.conv1.conv1_3.norm._variance                     backbone.stem.2.norm._variance
        backbone.res2.res2a.branch2a.conv.weight                  backbone.stages.0.0.conv1.conv.weight
        backbone.res2.res2a.short.conv.weight                     backbone.stages.0.0.shortcut.projection.conv.weight
        backbone.res2.res2a.short.norm.bias                       backbone.stages.0.0.shortcut.projection.norm.bias
        backbone.res3.res3a.short.conv.weight                     backbone.stages.1.0.shortcut.projection.conv.weight
        backbone.res3.res3a.short.conv.conv.weight                backbone.stages.1.0.shortcut.projection.conv.weight
        backbone.res4.res4a.short.conv.norm._mean                 backbone.stages.2.0.shortcut.projection.norm._mean
        backbone.res3.res3d.branch2b.conv_offset.weight           backbone.stages.1.3.conv2.conv.offset.weight
        backbone.res3.res3d.branch2b.conv.weight                  backbone.stages.1.3.conv2.conv.weight
        backbone.res4.res4b.branch2c.norm.weight                  backbone.stages.2.1.conv3.norm.weight
        backbone.res4.res4f.branch2a.conv.weight                  backbone.stages.2.5.conv1.conv.weight
        backbone.res4.res4b1.branch2a.conv.weight                 backbone.stages.2.1.conv1.conv.weight
        backbone.res4.res4b22.branch2b.conv_offset.bias           backbone.stages.2.22.conv2.conv.offset.bias
        backbone.res4.res4b22.branch2c.norm._variance             backbone.stages.2.22.conv3.norm._variance
        backbone.res5.res5c.branch2b.norm.bias                    backbone.stages.3.2.conv2.norm.bias
        neck.fpn_inner_res5_sum.weight                            neck.lateral_convs.3.weight
        neck.fpn_inner_res2_sum_lateral.bias                      neck.lateral_convs.0.bias
        neck.fpn_res4_sum.weight                                  neck.output_convs.2.weight
        solov2_head.bbox_head.kernel_convs.0.conv.weight          head.kernel_convs.0.conv.weight
        solov2_head.bbox_head.cate_convs.3.norm.bias              head.cate_convs.3.norm.bias
        solov2_head.bbox_head.cate_convs.2.conv.conv_offset.weight  head.cate_convs.2.conv.offset.weight
        solov2_head.bbox_head.cate_convs.2.conv.conv_dcn.bias     head.cate_convs.2.conv.bias
        solov2_head.bbox_head.solo_kernel.weight                  head.kernel_pred.weight
        solov2_head.bbox_head.solo_cate.bias                      head.cate_pred.bias
        mask_head.conv_pre_feat2.mask_feat_head.convs_all_levels.2.conv1.norm.bias  mask_feat_head.levels.2.1.norm.bias
        mask_head.conv_pre_feat3.mask_feat_head.convs_all_levels.3.conv2.norm.bias  mask_feat_head.levels.3.2.norm.bias
        mask_head.mask_feat_head.conv_pred.0.conv.conv_dcn.weight  mask_feat_head.pred.conv.weight
        mask_head.mask_feat_head.conv_pred.0.norm.bias            mask_feat_head.pred.norm.bias
    """,
    PPDET_0_5: """
        conv1_weights                                             backbone.stem.0.conv.weight
        bn_conv1_scale                                            backbone.stem.0.norm.weight
        bn_conv1_variance                                         backbone.stem.0.norm._variance
        conv1_2_weights                                           backbone.stem.1.conv.weight
        bnv1_3_offset                                             backbone.stem.2.norm.bias
        bnv1_3_mean                                               backbone.stem.2.norm._mean
        res2a_branch1_weights                                     backbone.stages.0.0.shortcut.projection.conv.weight
        bn2a_branch1_variance                                     backbone.stages.0.0.shortcut.projection.norm._variance
        res3b_branch2a_weights                                    backbone.stages.1.1.conv1.conv.weight
        bn3b_branch2a_scale                                       backbone.stages.1.1.conv1.norm.weight
        res3a_branch2b_conv_offset.w_0                            backbone.stages.1.0.conv2.conv.offset.weight
        res3a_branch2b_conv_offset.b_0                            backbone.stages.1.0.conv2.conv.offset.bias
        bn4f_branch2c_offset                                      backbone.stages.2.5.conv3.norm.bias
        res5c_branch2b_weights                                    backbone.stages.3.2.conv2.conv.weight
        bn5c_branch2b_mean                                        backbone.stages.3.2.conv2.norm._mean
        fpn_inner_res5_sum_w                                      neck.lateral_convs.3.weight
        fpn_inner_res4_sum_lateral_b                              neck.lateral_convs.2.bias
        fpn_res2_sum_b                                            neck.output_convs.0.bias
        bbox_head.kernel_convs.0_weights                          head.kernel_convs.0.conv.weight
        bbox_head.kernel_convs.0.gn_scale                         head.kernel_convs.0.norm.weight
        bbox_head.cate_convs.2_conv_offset.w_0                    head.cate_convs.2.conv.offset.weight
        bbox_head.cate_convs.2.gn_offset                          head.cate_convs.2.norm.bias
        bbox_head.solo_cate.weight                                head.cate_pred.weight
        bbox_head.solo_kernel.bias                                head.kernel_pred.bias
        mask_feat_head.convs_all_levels.2.conv1_weights           mask_feat_head.levels.2.1.conv.weight
        mask_feat_head.convs_all_levels.2.conv1.gn_scale          mask_feat_head.levels.2.1.norm.weight
        mask_feat_head.conv_pred.0_weights                        mask_feat_head.pred.conv.weight
        mask_feat_head.conv_pred.0.gn_offset                      mask_feat_head.pred.norm.bias
    """,
    CLAS_1: """
        conv1_1_weights                                           backbone.stem.0.conv.weight
        bnv1_1_scale                                              backbone.stem.0.norm.weight
        bnv1_3_variance                                           backbone.stem.2.norm._variance
        res2a_branch1_weights                                     backbone.stages.0.0.shortcut.projection.conv.weight
        bn3a_branch1_mean                                         backbone.stages.1.0.shortcut.projection.norm._mean
        res4f_branch2b_weights                                    backbone.stages.2.5.conv2.conv.weight
        bn5c_branch2c_offset                                      backbone.stages.3.2.conv3.norm.bias
    """,
    CLAS_2_0: """
        conv1_1._conv.weight                                      backbone.stem.0.conv.weight
        conv1_1._batch_norm.weight                                backbone.stem.0.norm.weight
        conv1_3._batch_norm._variance                             backbone.stem.2.norm._variance
        bb_0_0.short._conv.weight                                 backbone.stages.0.0.shortcut.projection.conv.weight
        bb_3_0.short._batch_norm.bias                             backbone.stages.3.0.shortcut.projection.norm.bias
        bb_1_3.conv0._conv.weight                                 backbone.stages.1.3.conv1.conv.weight
        bb_2_5.conv1._batch_norm._mean                            backbone.stages.2.5.conv2.norm._mean
        bb_2_5.conv2._conv.weight                                 backbone.stages.2.5.conv3.conv.weight
        bb_3_2.conv2._batch_norm._variance                        backbone.stages.3.2.conv3.norm._variance
    """,
    CLAS_2: """
        stem.0.conv.weight                                        backbone.stem.0.conv.weight
        stem.2.bn._mean                                           backbone.stem.2.norm._mean
        blocks.0.conv0.conv.weight                                backbone.stages.0.0.conv1.conv.weight
        blocks.0.short.bn.weight                                  backbone.stages.0.0.shortcut.projection.norm.weight
        blocks.2.conv2.bn.bias                                    backbone.stages.0.2.conv3.norm.bias
        blocks.3.conv1.conv.weight                                backbone.stages.1.0.conv2.conv.weight
        blocks.7.short.conv.weight                                backbone.stages.2.0.shortcut.projection.conv.weight
        blocks.12.conv1.bn._variance                              backbone.stages.2.5.conv2.norm._variance
        blocks.13.short.bn._mean                                  backbone.stages.3.0.shortcut.projection.norm._mean
        blocks.15.conv2.conv.weight                               backbone.stages.3.2.conv3.conv.weight
    """,
    PPDET_2_BACKBONE: """
        conv1.conv1_1.conv.weight                                 backbone.stem.0.conv.weight
        conv1.conv1_3.norm._mean                                  backbone.stem.2.norm._mean
        res2.res2a.short.conv.weight                              backbone.stages.0.0.shortcut.projection.conv.weight
        res2.res2a.short.norm._mean                               backbone.stages.0.0.shortcut.projection.norm._mean
        res5.res5a.short.conv.conv.weight                         backbone.stages.3.0.shortcut.projection.conv.weight
        res4.res4f.branch2b.conv.weight                           backbone.stages.2.5.conv2.conv.weight
        res4.res4f.branch2c.norm._variance                        backbone.stages.2.5.conv3.norm._variance
    """,
    CENTERMASK2: """
        backbone.bottom_up.stem.stem_1/conv.weight                backbone.stem.0.conv.weight
        backbone.bottom_up.stem.stem_3/norm.running_var           backbone.stem.2.norm._variance
        backbone.bottom_up.stage2.OSA2_1.layers.0.OSA2_1_0/conv.weight  backbone.stages.0.0.chain.0.conv.weight
        backbone.bottom_up.stage4.OSA4_2.layers.4.OSA4_2_4/norm.running_mean  backbone.stages.2.1.chain.4.norm._mean
        backbone.bottom_up.stage4.OSA4_9.concat.OSA4_9_concat/norm.bias  backbone.stages.2.8.concat.norm.bias
        backbone.bottom_up.stage5.OSA5_2.ese.fc.bias              backbone.stages.3.1.ese.fc.bias
        backbone.bottom_up.stage4.OSA4_2.layers.0.OSA4_2_0/conv_offset.bias backbone.stages.2.1.chain.0.conv.offset.bias
        backbone.bottom_up.features.17.conv.3.weight              backbone.stages.3.3.depthwise.conv.weight
        backbone.fpn_lateral3.weight                              neck.lateral_convs.0.weight
        backbone.fpn_output5.bias                                 neck.output_convs.2.bias
        backbone.top_block.p6.weight                              neck.p6.weight
        backbone.top_block.p7.bias                                neck.p7.bias
        proposal_generator.fcos_head.cls_tower.0.bias             head.cate_convs.0.conv.bias
        proposal_generator.fcos_head.cls_tower.10.weight          head.cate_convs.3.norm.weight
        proposal_generator.fcos_head.bbox_tower.9.weight          head.box_convs.3.conv.weight
        proposal_generator.fcos_head.bbox_tower.1.bias            head.box_convs.0.norm.bias
        proposal_generator.fcos_head.cls_logits.bias              head.cate_pred.bias
        proposal_generator.fcos_head.bbox_pred.weight             head.box_pred.weight
        proposal_generator.fcos_head.ctrness.weight               head.centre_pred.weight
        proposal_generator.fcos_head.scales.4.scale               head.scales.4
        roi_heads.mask_head.mask_fcn4.bias                        roi_head.mask_head.convs.3.bias
        roi_heads.mask_head.spatialAtt.conv.weight                roi_head.mask_head.attention.weight
        roi_heads.mask_head.deconv.bias                           roi_head.mask_head.deconv.bias
        roi_heads.mask_head.predictor.weight                      roi_head.mask_head.pred.weight
        roi_heads.maskiou_head.maskiou_fcn1.weight                roi_head.iou_head.convs.0.weight
        roi_heads.maskiou_head.maskiou_fc2.bias                   roi_head.iou_head.fcs.1.bias
        roi_heads.maskiou_head.maskiou.bias                       roi_head.iou_head.pred.bias
    """,
    MOBILENET: """
        features.0.0.weight                                       backbone.stem.conv.weight
        features.0.1.running_mean                                 backbone.stem.norm._mean
        features.1.conv.0.weight                                  backbone.stages.0.0.depthwise.conv.weight
        features.1.conv.4.bias                                    backbone.stages.0.0.project.norm.bias
        features.2.conv.0.weight                                  backbone.stages.0.1.expand.conv.weight
        features.3.conv.4.running_var                             backbone.stages.0.2.depthwise.norm._variance
        backbone.bottom_up.features.4.conv.3.weight               backbone.stages.1.0.depthwise.conv.weight
        features.13.conv.6.weight                                 backbone.stages.2.6.project.conv.weight
        backbone.bottom_up.features.17.conv.7.weight              backbone.stages.3.3.project.norm.weight
    """,
    VOVNET: """
        stem.stem_3/dw_conv3x3.weight                             backbone.stem.2.depthwise.weight
        stem.stem_2/pw_norm.running_mean                          backbone.stem.1.pointwise.norm._mean
        stage3.OSA3_1.layers.2.OSA3_1_2/pw_conv1x1.weight         backbone.stages.1.0.chain.2.pointwise.conv.weight
        stage4.OSA4_1.conv_reduction.OSA4_1_reduction_0/conv.weight  backbone.stages.2.0.reduction.conv.weight
        stage4.OSA4_1.conv_reduction.OSA4_1_reduction_0/norm.bias  backbone.stages.2.0.reduction.norm.bias
        stem.stem_2/conv.weight                                   backbone.stem.1.conv.weight
        stage3.OSA3_1.layers.1.OSA3_1_1/norm.weight               backbone.stages.1.0.chain.1.norm.weight
        stage5.OSA5_3.concat.OSA5_3_concat/conv.weight            backbone.stages.3.2.concat.conv.weight
        stage2.OSA2_1.ese.fc.weight                               backbone.stages.0.0.ese.fc.weight
    """,
}
PAIRS = [(table, *line.split()) for table, lines in BY_HAND.items() for line in lines.strip().splitlines()]


@pytest.mark.parametrize(("table", "theirs", "ours"), PAIRS, ids=[f"{p[0].program}-{p[1]}" for p in PAIRS])
def test_name_written_by_hand(table, theirs, ours):
    array = np.zeros(1, np.float32)
    assert table.rename({theirs: array}) == {ours: (theirs, array)}


def test_our_names_exist():
    known = set().union(*(network_shapes(kind()) for kind in registry().values()))
    assert {ours for _, _, ours in PAIRS} <= known


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (SOLO, "backbone.layer3.0.bn1.num_batches_tracked"),
        (OPENFIREWORK, "backbone.bn1.num_batches_tracked"),
        (TORCHVISION, "layer4.0.downsample.1.num_batches_tracked"),
        (TORCHVISION, "fc.weight"),
        (PPDET_2, "solov2_head.solo_kernel.weight"),
        (PPDET_2, "solov2_head.solo_cate.bias"),
        (PPDET_2, "mask_head.conv_pred.conv.conv_dcn.weight"),
        (PPDET_2, "mask_head.conv_pred.norm.bias"),
        (CLAS_1, "fc_0.b_0"),
        (CLAS_2_0, "out.weight"),
        (CLAS_2, "fc.bias"),
        (PPDET_2_BACKBONE, "fc.weight"),
        (CENTERMASK2, "pixel_mean"),
        (VOVNET, "classifier.bias"),
        (MOBILENET, "classifier.1.weight"),
        (MOBILENET, "backbone.bottom_up.features.18.0.weight"),
        (VOVNET, "stem.stem_1/norm.num_batches_tracked"),
    ],
)
def test_unneeded_name_is_dropped(table, name):
    assert table.rename({name: np.zeros(1)}) == {}


def test_linear_layers_are_transposed():
    array = np.arange(6).reshape(2, 3)
    (renamed,) = CENTERMASK2.rename({"roi_heads.maskiou_head.maskiou_fc1.weight": array}).values()
    np.testing.assert_array_equal(renamed[1], array.T)
