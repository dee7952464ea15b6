"""I3D-R50 on Kinetics-400 with 4 frames per snippet: the baseline for dsanet_r50_4x4.py, without DSA.

What       I3D ResNet-50, the scores of 4 snippets averaged; 4 snippets x 4 frames x 224 x 224, frame interval 16. 32.45
           M parameters, 83.48 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/i3d_r50_4x4.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/i3d_r50_4x4.py work_dirs/i3d_r50_4x4/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     as in dsanet_r50_4x4.py
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 4
frames_per_snippet = 4
frame_interval = 16

model = dict(module_cfg=None)
