"""V4D-R50 on Kinetics-400: a 4D residual block after each block where DSANet has DSA.

What       I3D ResNet-50 with five 4D blocks; 4 snippets x 4 frames x 224 x 224, frame interval 16. 65.48 M parameters,
           231.46 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/v4d_r50_4x4.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/v4d_r50_4x4.py work_dirs/v4d_r50_4x4/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The paper reports 77.4% top-1 for V4D ResNet-50 with 8 frames per snippet and inference
           over all combinations of snippets; here a view has 4 snippets.
Source     arXiv 2002.07442; sampling and schedule as in dsanet_r50_4x4.py, for comparison
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
        type='V4D',
        num_snippets='${num_snippets}',
        kernel_size=(3, 3, 1, 1),
        place='after_block',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    )
)
