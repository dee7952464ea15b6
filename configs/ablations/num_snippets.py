"""Ablation: U, the number of snippets. A single snippet has nothing to mix: its kernel has length 1, the identity.

What       DSANet-R50 on Mini-Kinetics-200, 4 frames per snippet. 32.04 M parameters, 83.48 GMACs per view.
Train      bash dist_train_recognizer.sh configs/ablations/num_snippets.py 8
Test       bash dist_test_recognizer.sh configs/ablations/num_snippets.py work_dirs/num_snippets/best.pth 8
Vary       --cfg-options num_snippets=1 kernel_size=1
           --cfg-options num_snippets=2
           --cfg-options num_snippets=4
           --cfg-options num_snippets=8
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
num_snippets = 4

train_dataloader = dict(batch_size=6)
