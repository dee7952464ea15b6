r"""DSA after three stages of MViTv2-S on Kinetics-400: an example of a backbone with tokens.

What       torchvision's mvit_v2_s with DSA after its first three stages; 2 snippets x 16 frames x 224 x 224, frame
           interval 4. 34.54 M parameters, 128.45 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_mvit_v2_s_2x16.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_mvit_v2_s_2x16.py \
               work_dirs/dsanet_mvit_v2_s_2x16/best.pth 8
Batch      8 GPUs x 4 videos
Expected   not measured here. torchvision reports 80.757% top-1 for its weights of mvit_v2_s, without DSA, with 16
           frames and 5 views.
Source     arXiv 2112.01526; the settings are ours
"""

_base_ = [
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 2
frames_per_snippet = 16
frame_interval = 4
short_side = 224  # MViT accepts one size only, also in tests

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='TorchvisionVideo', name='mvit_v2_s', stochastic_depth=0.2, pretrained='pretrained/mvit_v2_s-ae3be167.pth'
    ),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=768, dropout=0.5),
    data_preprocessor=dict(type='DataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3),
    max_views_per_forward=2,
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1 / 8,
        residual=True,
        after=('net.blocks.0', 'net.blocks.2', 'net.blocks.13'),  # the last block of a stage
    ),
)
train_dataloader = dict(batch_size=4)
optimizer = dict(type='AdamW', lr=1e-4, weight_decay=0.05)
parameters = dict(decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule', warmup_epochs=2.5, warmup_start_factor=0.01)
train_cfg = dict(max_epochs=30, val_interval=5, base_batch_size=32)
