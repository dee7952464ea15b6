"""V4D on ordered actions: 4D convolutions relate the snippets.

What       I3D-ResNet-10 of width 16 with 4D residual blocks after the blocks of the last three stages; 4 snippets x 4
           frames x 40 x 40. 0.541 M parameters, 0.095 GMACs per view.
Train      bash dist_train_recognizer.sh configs/demo/v4d_ordered_actions.py 1
Test       bash dist_test_recognizer.sh configs/demo/v4d_ordered_actions.py work_dirs/v4d_ordered_actions/best.pth 1
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
    module_cfg=dict(type='V4D', num_snippets='${num_snippets}', place='after_block', blocks=(0, 1, 1, 1)),
)
