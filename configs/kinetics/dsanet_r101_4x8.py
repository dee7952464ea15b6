"""DSANet-R101 on Kinetics-400.

What       I3D ResNet-101 with thirteen DSA modules, in every second block of the second and third stages; 4 snippets x
           8 frames x 224 x 224, frame interval 8. Activation checkpointing saves memory. 60.36 M parameters, 341.67
           GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_r101_4x8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_r101_4x8.py work_dirs/dsanet_r101_4x8/best.pth 8
Batch      8 GPUs x 6 videos
Expected   not measured here.
Source     arXiv 2105.12085; depth 101 is ours (the release has 18 and 50 layers); schedule as in the authors' release,
           with the learning rate for half the batch size
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 4
frames_per_snippet = 8
frame_interval = 8

model = dict(
    backbone=dict(depth=101, activation_checkpointing=True, pretrained='pretrained/resnet101-63fe2227.pth'),
    max_views_per_forward=2,
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size=3,
        expansion=2,
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1) * 11 + (0,), 0),
    ),
)
train_dataloader = dict(batch_size=6)
optimizer = dict(lr=0.0075)
train_cfg = dict(base_batch_size=48)
