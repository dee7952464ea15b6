r"""Multi-scale TRN (ResNet-50) on Something-Something V1, 8 frames.

What       ResNet-50 on 8 snippets of one frame x 224 x 224, spread over the video; relations of 2 to 8 snippets. No
           flips: some classes differ only in direction. 26.64 M parameters, 32.78 GMACs per view.
Train      bash dist_train_recognizer.sh configs/something/sthv1_trn_multiscale_r50_8.py 8
Test       bash dist_test_recognizer.sh configs/something/sthv1_trn_multiscale_r50_8.py \
               work_dirs/sthv1_trn_multiscale_r50_8/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here.
Source     arXiv 1711.08496; the paper uses another backbone and samples relations in testing, where we average all of
           them; schedule as for TSM
"""

_base_ = [
    '../_base_/models/c2d_r50.py',
    '../_base_/data/something.py',
    '../_base_/schedules/sgd_step_e50_tsm.py',
    '../_base_/runtime.py',
]

num_classes = 174
num_snippets = 8
frames_per_snippet = 1

model = dict(
    backbone=dict(partial_bn=True),
    cls_head=dict(
        type='TRNHead',
        num_classes='${num_classes}',
        in_channels=2048,
        num_snippets='${num_snippets}',
        multi_scale=True,
        num_relations=3,
        hidden_channels=256,
        dropout=0.8,
        init_std=0.001,
    ),
)
