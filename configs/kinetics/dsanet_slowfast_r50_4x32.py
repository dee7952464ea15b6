r"""DSA in the slow pathway of SlowFast-R50 4x16, Kinetics-400.

What       SlowFast ResNet-50 with five DSA modules in the slow pathway; 4 snippets x 32 frames x 224 x 224, frame
           interval 2, of which the slow pathway has 4. 34.48 M parameters, 110.56 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_slowfast_r50_4x32.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_slowfast_r50_4x32.py \
               work_dirs/dsanet_slowfast_r50_4x32/best.pth 8
Batch      8 GPUs x 4 videos
Expected   not measured here.
Source     arXiv 1812.03982 and 2105.12085; the combination and the settings are ours. It starts from PyTorchVideo's
           weights of SlowFast-R50 4x16 (model_zoo/kinetics/SLOWFAST_4x16_R50.pyth)
"""

_base_ = [
    '../_base_/models/slowfast_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_cosine_e30.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 4
frames_per_snippet = 32
frame_interval = 2

model = dict(
    backbone=dict(pretrained='pretrained/SLOWFAST_4x16_R50.pyth'),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
    max_views_per_forward=2,
)
train_dataloader = dict(batch_size=4)
optimizer = dict(lr=0.01 / 3)
train_cfg = dict(base_batch_size=32)
