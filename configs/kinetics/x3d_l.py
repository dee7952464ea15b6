"""X3D-L on Kinetics-400, from scratch.

What       X3D; one clip of 16 frames x 312 x 312, frame interval 5. 6.15 M parameters, 18.37 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/x3d_l.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/x3d_l.py work_dirs/x3d_l/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here. PySlowFast's model zoo reports 77.5% top-1 for its weights, with 10 clips x 3 crops.
Source     arXiv 2004.04730, section 4; network, normalization and schedule as in PySlowFast (X3D_L), with our
           random crops, without zero-initialized norms and precise statistics
"""

_base_ = [
    '../_base_/models/x3d.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_cosine_e300.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 16
frame_interval = 5
num_groups = 10
short_side = 356
crop_size = 312

model = dict(backbone=dict(depth_factor=5.0), average_views='prob', max_views_per_forward=6)
train_dataloader = dict(batch_size=8)
test_dataloader = dict(batch_size=1)
optimizer = dict(lr=0.05)
train_cfg = dict(max_epochs=256, base_batch_size=64)
