"""The baseline for dsanet_ordered_actions.py: the same network without DSA, which averages the scores of its snippets.

What       I3D-ResNet-10 of width 16; 4 snippets x 4 frames x 40 x 40. 0.347 M parameters, 0.077 GMACs per view.
Train      bash dist_train_recognizer.sh configs/demo/i3d_ordered_actions.py 1
Test       bash dist_test_recognizer.sh configs/demo/i3d_ordered_actions.py work_dirs/i3d_ordered_actions/best.pth 1
Batch      1 process x 8 videos
Expected   top-1 53 to 57% with the seeds 0, 1, 2 (measured). The network recognizes the direction and has to guess the
           order.
"""

_base_ = [
    '../_base_/models/i3d_tiny.py',
    '../_base_/data/ordered_actions.py',
    '../_base_/schedules/sgd_cosine_e16.py',
    '../_base_/runtime.py',
]

num_classes = 8

model = dict(module_cfg=None)
