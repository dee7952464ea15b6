"""SlowFast-R50 8x8 on Kinetics-400, from scratch.

What       SlowFast ResNet-50; 8 frames in the slow pathway, 32 in the fast one; one clip of 32 frames x
           224 x 224, frame interval 2. 34.57 M parameters, 50.31 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/slowfast_r50_8x8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/slowfast_r50_8x8.py work_dirs/slowfast_r50_8x8/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here. PyTorchVideo's model zoo reports 76.94% top-1 for its weights, with 10 clips x 3 crops.
Source     arXiv 1812.03982, section 4; network, normalization and schedule as in PySlowFast (SLOWFAST_8x8_R50), with
           our random crops, without zero-initialized norms and precise statistics
"""

_base_ = [
    '../_base_/models/slowfast_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_cosine_e196.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 32
frame_interval = 2
num_groups = 10

model = dict(
    average_views='prob',
    max_views_per_forward=6,
    backbone=dict(speed_ratio=4, lateral_kernel_t=7),
    cls_head=dict(test_window=(7, 7)),
)
train_dataloader = dict(batch_size=8)
test_dataloader = dict(batch_size=1)
