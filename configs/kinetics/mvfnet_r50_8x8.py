"""MVFNet-R50 on Kinetics-400, 8 frames, frame interval 8.

What       ResNet-50 with a multi-view fusion (MVF) module in each block of the last two stages; one clip of 8 frames x
           224 x 224, frame interval 8. 24.34 M parameters, 32.71 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/mvfnet_r50_8x8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/mvfnet_r50_8x8.py work_dirs/mvfnet_r50_8x8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The authors report 76.0% top-1 with 10 clips x 3 crops.
Source     arXiv 2012.06977; settings as in the authors' release, with torchvision's ImageNet weights
"""

_base_ = [
    '../_base_/models/c2d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e150.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 8
frame_interval = 8
num_groups = 10

model = dict(
    average_views='prob',
    max_views_per_forward=6,
    module_cfg=dict(type='MVF', channel_ratio=1 / 8, place='before_conv1', blocks=(0, 0, 1, 1)),
)
test_dataloader = dict(batch_size=1)
