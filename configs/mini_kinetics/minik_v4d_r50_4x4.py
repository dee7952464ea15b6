r"""V4D-R50 on Mini-Kinetics-200: a 4D residual block after each block where DSANet has DSA.

What       I3D ResNet-50 with five 4D blocks; 4 snippets x 4 frames x 224 x 224, frame interval 8. 65.07 M parameters,
           231.46 GMACs per view.
Train      bash dist_train_recognizer.sh configs/mini_kinetics/minik_v4d_r50_4x4.py 8
Test       bash dist_test_recognizer.sh configs/mini_kinetics/minik_v4d_r50_4x4.py \
               work_dirs/minik_v4d_r50_4x4/best.pth 8
Batch      8 GPUs x 6 videos
Expected   not measured here. The V4D paper reports 80.7% top-1 with 10 snippets x 3 crops.
Source     arXiv 2002.07442; its inference over all combinations of snippets is not implemented
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100_mini.py',
    '../_base_/runtime.py',
]

data_root = 'data/mini_kinetics'
num_classes = 200
num_snippets = 4
frames_per_snippet = 4
frame_interval = 8

model = dict(
    module_cfg=dict(
        type='V4D',
        num_snippets='${num_snippets}',
        kernel_size=(3, 3, 1, 1),
        place='after_block',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
)
train_dataloader = dict(batch_size=6)
