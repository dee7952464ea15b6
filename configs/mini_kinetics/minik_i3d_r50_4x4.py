r"""I3D-R50 on Mini-Kinetics-200: the baseline for the other two, without exchange between snippets.

What       I3D ResNet-50, the scores of 4 snippets averaged; 4 snippets x 4 frames x 224 x 224, frame interval 8. 32.04
           M parameters, 83.48 GMACs per view.
Train      bash dist_train_recognizer.sh configs/mini_kinetics/minik_i3d_r50_4x4.py 8
Test       bash dist_test_recognizer.sh configs/mini_kinetics/minik_i3d_r50_4x4.py \
               work_dirs/minik_i3d_r50_4x4/best.pth 8
Batch      8 GPUs x 6 videos
Expected   not measured here.
Source     arXiv 2002.07442 for snippets and learning rates; crops, clipping and batch are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100_mini.py',
    '../_base_/runtime.py',
]

data_root = 'data/mini_kinetics'
num_classes = 200
num_snippets = 4
frames_per_snippet = 4
frame_interval = 8

model = dict(module_cfg=None)
train_dataloader = dict(batch_size=6)
