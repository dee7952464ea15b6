"""DSANet-R50 on Kinetics-400: the paper's main experiment.

What       I3D ResNet-50 with five DSA modules, in every second block of the second and third stages; 4 snippets x 8
           frames x 224 x 224, frame interval 8. 32.45 M parameters, 166.97 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/r50_e100_s1_8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/r50_e100_s1_8.py work_dirs/r50_e100_s1_8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The paper's abstract reports 78.2% top-1 for I3D-ResNet-50 with DSA.
Source     arXiv 2105.12085; sampling and schedule as in the authors' release
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
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
    )
)
