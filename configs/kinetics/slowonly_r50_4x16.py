"""SlowOnly-R50 on Kinetics-400, 4 frames, frame interval 16: I3D with late inflation, trained on single clips.

What       I3D ResNet-50; one clip of 4 frames x 224 x 224, frame interval 16. 32.45 M parameters, 20.87 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/slowonly_r50_4x16.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/slowonly_r50_4x16.py work_dirs/slowonly_r50_4x16/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     arXiv 1812.03982; from ImageNet weights with the schedule of MVFNet; mmaction2 lowers the learning rate at
           the same epochs
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e150.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 4
frame_interval = 16
num_groups = 10

model = dict(
    average_views='prob',
    max_views_per_forward=6,
    cls_head=dict(test_window=(7, 7)),
)
test_dataloader = dict(batch_size=1)
