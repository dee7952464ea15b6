"""Non-local I3D-R50 on Kinetics-400, 32 frames, frame interval 2.

What       i3d_r50_32x2.py with five non-local blocks, after every second block of the second and third stages. 35.40 M
           parameters, 44.34 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/i3d_nl_r50_32x2.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/i3d_nl_r50_32x2.py work_dirs/i3d_nl_r50_32x2/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The literature reports 76.5% top-1 for non-local R50.
Source     arXiv 1711.07971; architecture and schedule as in mmaction2, scaled to the batch size
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 32
frame_interval = 2
num_groups = 10

model = dict(
    backbone=dict(
        inflate=((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0)),
        inflate_style='3x1x1',
        conv1_kernel_t=5,
        conv1_stride_t=2,
        pool1_kernel_t=1,
        pool1_stride_t=2,
        pool2_stride_t=2,
    ),
    average_views='prob',
    max_views_per_forward=6,
    module_cfg=dict(
        type='NonLocal3d',
        reduction=2,
        mode='embedded_gaussian',
        sub_sample=True,
        place='after_block',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
)
test_dataloader = dict(batch_size=1)
optimizer = dict(type='SGD', lr=0.015, momentum=0.9, weight_decay=1e-4)
schedule = dict(type='StepSchedule', milestones=(40, 80), gamma=0.1)
train_cfg = dict(max_epochs=100, val_interval=10, clip_grad_norm=40, base_batch_size=96)
