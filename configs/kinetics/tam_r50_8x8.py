"""TAM-R50 (TANet) on Kinetics-400, 8 frames, frame interval 8.

What       ResNet-50 with a temporal adaptive module in each block; one clip of 8 frames x 224 x 224, frame interval 8.
           25.59 M parameters, 32.77 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/tam_r50_8x8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/tam_r50_8x8.py work_dirs/tam_r50_8x8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The authors report 76.1% top-1 with 10 clips x 3 crops.
Source     arXiv 2005.06803; milestones and learning rate as in mmaction2, the rest of the schedule as in the main
           experiment
"""

_base_ = [
    '../_base_/models/c2d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 8
frame_interval = 8
num_groups = 10

model = dict(
    max_views_per_forward=6,
    module_cfg=dict(
        type='TAM',
        frames_per_snippet='${frames_per_snippet}',
        kernel_size=3,
        place='before_conv2',
        blocks=(1, 1, 1, 1),
    ),
)
test_dataloader = dict(batch_size=1)
