"""SlowFast-R50 4x16 on Kinetics-400, from scratch.

What       SlowFast ResNet-50; 4 frames in the slow pathway, 32 in the fast one; one clip of 32 frames x
           224 x 224, frame interval 2. 34.48 M parameters, 27.64 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/slowfast_r50_4x16.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/slowfast_r50_4x16.py work_dirs/slowfast_r50_4x16/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here. PyTorchVideo's model zoo reports 75.34% top-1 for its weights, with 10 clips x 3 crops.
Source     arXiv 1812.03982, section 4; network, normalization and schedule as in PySlowFast (SLOWFAST_4x16_R50), with
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
    cls_head=dict(test_window=(7, 7)),
)
train_dataloader = dict(batch_size=8)
test_dataloader = dict(batch_size=1)
