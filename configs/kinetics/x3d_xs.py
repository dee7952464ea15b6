"""X3D-XS on Kinetics-400, from scratch.

What       X3D; one clip of 4 frames x 160 x 160, frame interval 12. 3.79 M parameters, 0.61 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/x3d_xs.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/x3d_xs.py work_dirs/x3d_xs/best.pth 8
Batch      8 GPUs x 16 videos
Expected   not measured here. PySlowFast's model zoo reports 69.5% top-1 for its weights, with 10 clips x 3 crops.
Source     arXiv 2004.04730, section 4; network, normalization and schedule as in PySlowFast (X3D_XS), with our
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
frames_per_snippet = 4
frame_interval = 12
num_groups = 10
short_side = 182
crop_size = 160

model = dict(average_views='prob', max_views_per_forward=30)
train_dataloader = dict(batch_size=16)
test_dataloader = dict(batch_size=1)
