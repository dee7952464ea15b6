r"""ViT-L of VideoMAE on your own videos, fine-tuned end to end; frames are sampled by time.

What       ViT-L; 1 snippet x 16 frames x 224 x 224 at 7.5 frames per second, 2.1 s, whatever the rates of the videos;
           layer-wise learning rates, two augmented clips per video. 303.86 M parameters, 596.83 GMACs per view.
Data       as in finetune_videos.py
Weights    hf download MCG-NJU/videomae-large-finetuned-kinetics --local-dir pretrained/videomae-large
Train      bash dist_train_recognizer.sh configs/custom/finetune_vit_l.py 1
Test       bash dist_test_recognizer.sh configs/custom/finetune_vit_l.py work_dirs/finetune_vit_l/best.pth 1
Batch      1 GPU x 4 videos x 8 batches; with more GPUs add --scale-lr
Expected   depends on the videos; best.pth has the highest mean class accuracy
Source     arXiv 2203.12602; layer decay and learning rate as in sthv2_vit_b_16x224.py; drop path as in PySlowFast's
           k400_VIT_L_16x4_FT.yaml; epochs and augmentation are ours
"""

_base_ = [
    '../_base_/models/vit_l_16x224.py',
    '../_base_/data/videos.py',
    '../_base_/schedules/adamw_vit.py',
    '../_base_/runtime_own_videos.py',
]

num_snippets = 1
frames_per_snippet = 16
frame_interval = None
fps = 7.5
short_side = 224

model = dict(
    backbone=dict(stochastic_depth=0.2),
    batch_augment=dict(type='MixupCutmix', mixup_alpha=0.8, cutmix_alpha=1.0),
    cls_head=dict(
        init_std=2e-5,  # 0.02 x 0.001, the scale of the initial classifier
        loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
    ),
    max_views_per_forward=6,
)
train_dataloader = dict(
    batch_size=4,
    clips_per_video=2,
    dataset=dict(
        pipeline=[
            dict(type='OpenVideo', decoder='${decoder}'),
            dict(
                type='SampleSnippets',
                num_snippets='${num_snippets}',
                frames_per_snippet='${frames_per_snippet}',
                frame_interval='${frame_interval}',
                fps='${fps}',
                seconds='${seconds}',
                random=True,
            ),
            dict(type='DecodeVideo'),
            dict(type='RandomResizedCrop', size='${crop_size}', area_range=(0.3, 1.0)),
            dict(type='Flip', prob='${flip_prob}'),
            dict(type='RandAugment', num_ops=2, magnitude=9),
            dict(type='RandomErasing', prob=0.25, area_range=(0.02, 1 / 3)),
            dict(type='PackInputs'),
        ]
    ),
)
optimizer = dict(lr=6.25e-5)
train_cfg = dict(max_epochs=30, val_interval=1, clip_grad_norm=5, accumulate=8, base_batch_size=32)
runtime = dict(amp='bf16')
