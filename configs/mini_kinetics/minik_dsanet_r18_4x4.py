r"""DSANet-R18 on Mini-Kinetics-200.

What       I3D ResNet-18 with two DSA modules; 4 snippets x 4 frames x 224 x 224, frame interval 8. 31.92 M parameters,
           54.91 GMACs per view.
Train      bash dist_train_recognizer.sh configs/mini_kinetics/minik_dsanet_r18_4x4.py 8
Test       bash dist_test_recognizer.sh configs/mini_kinetics/minik_dsanet_r18_4x4.py \
               work_dirs/minik_dsanet_r18_4x4/best.pth 8
Batch      8 GPUs x 6 videos
Expected   not measured here.
Source     arXiv 2105.12085; snippets and learning rates as in V4D's paper, arXiv 2002.07442; the placement of DSA in 18
           layers is ours
"""

_base_ = [
    '../_base_/models/i3d_r18.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100_mini.py',
    '../_base_/runtime.py',
]

data_root = 'data/mini_kinetics'
num_classes = 200
num_snippets = 4
frames_per_snippet = 4
frame_interval = 8

model = dict(
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size=3,
        expansion=2,
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1), (0, 1), 0),
    ),
)
train_dataloader = dict(batch_size=6)
