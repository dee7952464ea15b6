r"""ViT-L of VideoMAE on Kinetics-400, fine-tuned end to end with the recipe of masked autoencoders.

What       ViT-L; 1 snippet x 16 frames x 224 x 224, frame interval 4; layer-wise learning rates, two augmented clips
           per video, RandAugment, RandomErasing, mixup and CutMix. 304.27 M parameters, 596.83 GMACs per view.
Weights    hf download MCG-NJU/videomae-large --local-dir pretrained/videomae-large
Train      bash dist_train_recognizer.sh configs/kinetics/vit_l_16x224.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/vit_l_16x224.py work_dirs/vit_l_16x224/best.pth 8
Batch      8 GPUs x 4 videos
Expected   not measured here.
Source     arXiv 2203.12602 and 2205.09113; learning rate, layer decay, drop path, dropout, epochs, clipping and
           augmentation as in PySlowFast's configs/masked_ssl/k400_VIT_L_16x4_FT.yaml, with its 2 clips of 16
           videos on 8 GPUs
"""

_base_ = [
    '../_base_/models/vit_l_16x224.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/adamw_vit.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 16
frame_interval = 4
num_groups = 5  # x 3 crops = 15 test views
short_side = 224

model = dict(
    backbone=dict(stochastic_depth=0.2),
    batch_augment=dict(type='MixupCutmix', mixup_alpha=0.8, cutmix_alpha=1.0),
    cls_head=dict(
        dropout=0.3,
        init_std=2e-5,  # 0.02 x 0.001, the scale of the initial classifier
        loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
    ),
    max_views_per_forward=5,
)
train_dataloader = dict(
    batch_size=4,
    clips_per_video=2,
    dataset=dict(
        pipeline=[
            dict(
                type='SampleSnippets',
                num_snippets='${num_snippets}',
                frames_per_snippet='${frames_per_snippet}',
                frame_interval='${frame_interval}',
                random=True,
            ),
            dict(type='DecodeRawFrames'),
            dict(type='RandomResizedCrop', size=224),
            dict(type='Flip', prob=0.5),
            dict(type='RandAugment', num_ops=2, magnitude=21),  # 7 of 10 in timm
            dict(type='RandomErasing', prob=0.25),
            dict(type='PackInputs'),
        ]
    ),
)
optimizer = dict(lr=3e-4)
parameters = dict(layer_decay=0.75)
train_cfg = dict(max_epochs=50, val_interval=5, clip_grad_norm=5, base_batch_size=32)
runtime = dict(amp='bf16')
