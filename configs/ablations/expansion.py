"""Ablation: the width of the kernel generator, in multiples of U (alpha in the release).

What       DSANet-R50 on Mini-Kinetics-200, 4 frames per snippet. 32.04 M parameters, 83.48 GMACs per view.
Train      bash dist_train_recognizer.sh configs/ablations/expansion.py 8
Test       bash dist_test_recognizer.sh configs/ablations/expansion.py work_dirs/expansion/best.pth 8
Vary       --cfg-options expansion=1
           --cfg-options expansion=2
           --cfg-options expansion=4
           --cfg-options expansion=8
Batch      8 GPUs x 6 videos
Expected   not measured here. The values compared in the paper are unknown to us.
Source     arXiv 2105.12085; data, sampling and schedule as in minik_dsanet_r50_4x4.py; the values are ours
"""

_base_ = [
    '../_base_/models/dsanet_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100_mini.py',
    '../_base_/runtime.py',
]

data_root = 'data/mini_kinetics'
num_classes = 200
frames_per_snippet = 4
frame_interval = 8
expansion = 2

train_dataloader = dict(batch_size=6)
