r"""I3D-R50 on Kinetics-400: the baseline for the paper's main experiment, the same without DSA.

What       I3D ResNet-50, the scores of 4 snippets averaged; 4 snippets x 8 frames x 224 x 224, frame interval 8. 32.45
           M parameters, 166.96 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/i3d_r50_e100_s1_8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/i3d_r50_e100_s1_8.py \
               work_dirs/i3d_r50_e100_s1_8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The paper compares with 74.9% top-1, which seems to come from a model trained on single
           clips, so the gain of DSA over this baseline is unknown.
Source     arXiv 2105.12085; sampling and schedule as in the authors' release
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

model = dict(module_cfg=None)
