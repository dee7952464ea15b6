"""R(2+1)D-34 on Kinetics-400, 8 frames, frame interval 8, from scratch.

What       R(2+1)D with 34 layers; one clip of 8 frames x 224 x 224, frame interval 8. 63.76 M parameters, 40.56 GMACs
           per view.
Train      bash dist_train_recognizer.sh configs/kinetics/r2plus1d_r34_8x8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/r2plus1d_r34_8x8.py work_dirs/r2plus1d_r34_8x8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     arXiv 1711.11248; architecture and schedule as in mmaction2, scaled to the batch size
"""

_base_ = [
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 8
frame_interval = 8
num_groups = 10

model = dict(
    type='Recognizer3D',
    backbone=dict(type='R2Plus1D', depth=34, style='mmaction2'),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=512, dropout=0.5, init_std=0.01),
    average_views='prob',
    max_views_per_forward=6,
)
test_dataloader = dict(batch_size=1)
optimizer = dict(type='SGD', lr=0.015, momentum=0.9, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', final_factor=0.0)
train_cfg = dict(max_epochs=180, val_interval=10, clip_grad_norm=40, base_batch_size=96)
