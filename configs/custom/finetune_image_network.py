"""A small image network of timm with DSA on your own videos, from ImageNet weights.

What       ConvNeXt-Atto on 8 snippets of one frame x 224 x 224, with DSA after the second and third stage, between the
           snippets; features averaged. 3.38 M parameters, 4.38 GMACs per view. Other networks:
           --cfg-options model.backbone.name=..., with module_cfg.after, cls_head.in_channels and the weights
Data       as in finetune_videos.py
Weights    python -m pip install -e '.[timm,hub]'
           hf download timm/convnext_atto.d2_in1k model.safetensors --local-dir pretrained/convnext_atto
Train      bash dist_train_recognizer.sh configs/custom/finetune_image_network.py 1
Test       bash dist_test_recognizer.sh configs/custom/finetune_image_network.py \\
               work_dirs/finetune_image_network/best.pth 1
Batch      1 GPU x 8 videos
Expected   depends on the videos; best.pth has the highest mean class accuracy
Source     arXiv 2201.03545 for the network; the settings are ours
"""

_base_ = [
    '../_base_/data/videos.py',
    '../_base_/runtime_own_videos.py',
]

num_classes = None  # counted in class_file, the folders or the lists
num_snippets = 8
frames_per_snippet = 1

model = dict(
    type='Recognizer3D',
    backbone=dict(type='TimmFrames', name='convnext_atto', pretrained='pretrained/convnext_atto/model.safetensors'),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=320, dropout=0.2),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1 / 8,
        after=('net.stages.1', 'net.stages.2'),
    ),
)
optimizer = dict(type='AdamW', lr=1e-4, weight_decay=0.05)
parameters = dict(decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=30, val_interval=1, clip_grad_norm=10, base_batch_size=8)
