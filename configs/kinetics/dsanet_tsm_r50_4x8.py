"""DSANet on TSM-R50, Kinetics-400: DSA between snippets, temporal shifts inside them.

What       ResNet-50 with temporal shifts in each block and five DSA modules; 4 snippets x 8 frames x 224 x 224, frame
           interval 8. 24.33 M parameters, 130.79 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_tsm_r50_4x8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_tsm_r50_4x8.py work_dirs/dsanet_tsm_r50_4x8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     arXiv 2105.12085, figure 2a; its settings for TSM were not released; sampling and schedule as in the main
           experiment
"""

_base_ = [
    '../_base_/models/tsm_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 4
frames_per_snippet = 8
frame_interval = 8

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
