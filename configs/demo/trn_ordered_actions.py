"""Multi-scale TRN on ordered actions: only the head relates the snippets.

What       I3D-ResNet-10 of width 16 with relations of 2 to 4 snippets; 4 snippets x 4 frames x 40 x 40. 0.393 M
           parameters, 0.077 GMACs per view.
Train      bash dist_train_recognizer.sh configs/demo/trn_ordered_actions.py 1
Test       bash dist_test_recognizer.sh configs/demo/trn_ordered_actions.py work_dirs/trn_ordered_actions/best.pth 1
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
    cls_head=dict(
        type='TRNHead',
        num_classes='${num_classes}',
        in_channels=128,
        num_snippets='${num_snippets}',
        multi_scale=True,
        hidden_channels=64,
        dropout=0.0,
        init_std=0.05,
    ),
)
