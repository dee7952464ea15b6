"""DSANet-R50 on Kinetics-400 with 4 frames per snippet: half the cost of the main experiment.

What       I3D ResNet-50 with five DSA modules; 4 snippets x 4 frames x 224 x 224, frame interval 16. 32.45 M
           parameters, 83.49 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_r50_4x4.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_r50_4x4.py work_dirs/dsanet_r50_4x4/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     arXiv 2105.12085; the frame interval is ours and keeps the time span of a snippet; schedule as in the
           authors' release
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

model = dict(
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size=3,
        expansion=2,
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
)
