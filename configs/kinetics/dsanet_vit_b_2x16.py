r"""DSA between the blocks of VideoMAE's ViT-B on Kinetics-400: an example of DSA in a transformer.

What       ViT-B with DSA after every third block; 2 snippets x 16 frames x 224 x 224, frame interval 4.
           86.53 M parameters, 360.69 GMACs per view.
Weights    hf download MCG-NJU/videomae-base --local-dir pretrained/videomae-base
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_vit_b_2x16.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_vit_b_2x16.py work_dirs/dsanet_vit_b_2x16/best.pth 8
Batch      8 GPUs x 4 videos
Expected   not measured here. VideoMAE reports 81.5% top-1 for ViT-B without DSA, with 16 frames and 15 views, after a
           longer schedule with stronger augmentation.
Source     arXiv 2203.12602; the settings are ours
"""

_base_ = [
    '../_base_/models/vit_b_16x224.py',
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 2
frames_per_snippet = 16
frame_interval = 4
short_side = 224  # crops of 224 pixels in tests, as in training

model = dict(
    backbone=dict(stochastic_depth=0.1),
    max_views_per_forward=2,
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1 / 8,
        place='after_block',
        blocks=((0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0),),
    ),
)
train_dataloader = dict(batch_size=4)
optimizer = dict(type='AdamW', lr=1e-4, weight_decay=0.05)
parameters = dict(decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule', warmup_epochs=5, warmup_start_factor=0.01)
train_cfg = dict(max_epochs=30, val_interval=5, base_batch_size=32)
