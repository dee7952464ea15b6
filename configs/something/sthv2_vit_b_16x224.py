r"""ViT-B of VideoMAE on Something-Something V2, fine-tuned end to end.

What       ViT-B; 16 frames x 224 x 224, spread over the video, without flips; layer-wise learning rates, two augmented
           clips per video, RandAugment, RandomErasing, mixup and CutMix. 86.36 M parameters, 180.34 GMACs per view.
Weights    hf download MCG-NJU/videomae-base-ssv2 --local-dir pretrained/videomae-base-ssv2
Train      bash dist_train_recognizer.sh configs/something/sthv2_vit_b_16x224.py 8
Test       bash dist_test_recognizer.sh configs/something/sthv2_vit_b_16x224.py \
               work_dirs/sthv2_vit_b_16x224/best.pth 8
Batch      8 GPUs x 8 videos x 8 batches
Expected   not measured here. VideoMAE reports 70.8% top-1 with 6 views.
Source     arXiv 2203.12602; layer decay, drop path, clips per video, RandomErasing and the initial classifier are the
           defaults of VideoMAE's script, 5e-4 per 256 clips is the learning rate that AdaMAE states for it
           (github.com/wgcban/adamae/issues/1); 40 epochs and the crops are ours
"""

_base_ = [
    '../_base_/models/vit_b_16x224.py',
    '../_base_/data/something.py',
    '../_base_/schedules/adamw_vit.py',
    '../_base_/runtime.py',
]

data_root = 'data/something_something_v2'
num_classes = 174
filename_tmpl = '{:06d}.jpg'  # as written by TSM's tools; dsanet extract-frames writes 'img_{:05d}.jpg'
num_snippets = 1
frames_per_snippet = 16
train_pipeline = [
    dict(
        type='SampleSegments', num_snippets='${num_snippets}', frames_per_snippet='${frames_per_snippet}', random=True
    ),
    dict(type='DecodeRawFrames'),
    dict(type='RandomResizedCrop', size=224),
    dict(type='RandAugment', num_ops=2, magnitude=21),  # 7 of 10 in timm
    dict(type='RandomErasing', prob=0.25),
    dict(type='PackInputs'),
]

model = dict(
    backbone=dict(stochastic_depth=0.1, pretrained='pretrained/videomae-base-ssv2/model.safetensors'),
    batch_augment=dict(type='MixupCutmix', mixup_alpha=0.8, cutmix_alpha=1.0),
    cls_head=dict(
        init_std=2e-5,  # 0.02 x 0.001, the scale of the initial classifier
        loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
    ),
    max_views_per_forward=6,
)
train_dataloader = dict(batch_size=8, clips_per_video=2)
train_cfg = dict(max_epochs=40, val_interval=5, accumulate=8, base_batch_size=512)
runtime = dict(amp='bf16')
