"""X3D-M on Kinetics-400, from scratch.

What       X3D; one clip of 16 frames x 224 x 224, frame interval 5. 3.79 M parameters, 4.73 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/x3d_m.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/x3d_m.py work_dirs/x3d_m/best.pth 8
Batch      8 GPUs x 16 videos
Expected   not measured here. PySlowFast's model zoo reports 76.2% top-1 for its weights, with 10 clips x 3 crops.
Source     arXiv 2004.04730, section 4; network, normalization and schedule as in PySlowFast (X3D_M), with our
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
short_side = 256
crop_size = 224

model = dict(average_views='prob', max_views_per_forward=10)
train_dataloader = dict(batch_size=16)
test_dataloader = dict(batch_size=1)
