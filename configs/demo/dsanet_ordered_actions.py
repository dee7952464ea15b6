"""DSANet on ordered actions: 4 directions of motion x 2 orders of events. The order is visible only across snippets.

What       I3D-ResNet-10 of width 16 with DSA on all channels of the last three stages; 4 snippets x 4 frames x 40 x 40.
           0.348 M parameters, 0.077 GMACs per view.
Train      bash dist_train_recognizer.sh configs/demo/dsanet_ordered_actions.py 1
Test       bash dist_test_recognizer.sh configs/demo/dsanet_ordered_actions.py \
               work_dirs/dsanet_ordered_actions/best.pth 1
Batch      1 process x 8 videos
Expected   top-1 100% with each of the seeds 0, 1, 2 (measured, last epoch, 160 videos)
"""

_base_ = [
    '../_base_/models/i3d_tiny.py',
    '../_base_/data/ordered_actions.py',
    '../_base_/schedules/sgd_cosine_e16.py',
    '../_base_/runtime.py',
]

num_classes = 8

model = dict(module_cfg=dict(type='DSA', num_snippets='${num_snippets}', channel_ratio=1, blocks=(0, 1, 1, 1)))
