r"""DSANet on TSM, ordered actions: shifts inside the snippets, DSA between them.

What       ResNet-10 of width 16 with temporal shifts, and DSA on all channels of the last three stages; 4 snippets x 4
           frames x 40 x 40. 0.311 M parameters, 0.051 GMACs per view.
Train      bash dist_train_recognizer.sh configs/demo/dsanet_tsm_ordered_actions.py 1
Test       bash dist_test_recognizer.sh configs/demo/dsanet_tsm_ordered_actions.py \
               work_dirs/dsanet_tsm_ordered_actions/best.pth 1
Batch      1 process x 8 videos
Expected   top-1 100% with seed 0 (measured, last epoch, 160 videos)
Source     generated data; settings as in dsanet_ordered_actions.py
"""

_base_ = [
    '../_base_/models/i3d_tiny.py',
    '../_base_/data/ordered_actions.py',
    '../_base_/schedules/sgd_cosine_e16.py',
    '../_base_/runtime.py',
]

num_classes = 8

model = dict(
    backbone=dict(type='ResNetTSM', depth=10, base_channels=16),
    module_cfg=dict(type='DSA', num_snippets='${num_snippets}', channel_ratio=1, blocks=(0, 1, 1, 1)),
)
