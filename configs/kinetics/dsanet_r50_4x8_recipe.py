r"""DSANet-R50 on Kinetics-400 with the training recipe of recent image and video networks.

What       The network of the main experiment, r50_e100_s1_8.py, trained with RandAugment, mixup and CutMix, label
           smoothing, stochastic depth, EMA weights, weight decay on filters only, and twice the learning rate for the
           classifier and DSA. 32.45 M parameters, 166.97 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_r50_4x8_recipe.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_r50_4x8_recipe.py \
               work_dirs/dsanet_r50_4x8_recipe/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     arXiv 1909.13719, 1710.09412, 1905.04899, 1512.00567, 1603.09382 for the parts; their combination and its
           values are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 4
frames_per_snippet = 8
frame_interval = 8

model = dict(
    backbone=dict(stochastic_depth=0.1),
    batch_augment=dict(type='MixupCutmix', mixup_alpha=0.2, cutmix_alpha=1.0, prob=0.8),
    cls_head=dict(loss=dict(type='CrossEntropyLoss', label_smoothing=0.1)),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size=3,
        expansion=2,
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
)
train_dataloader = dict(
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
            dict(type='RandAugment', num_ops=2, magnitude=9),
            dict(type='PackInputs'),
        ]
    )
)
optimizer = dict(type='SGD', lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-5)
parameters = dict(lr_multipliers={'cls_head': 2, 'dsa': 2}, decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule', warmup_epochs=10, warmup_start_factor=0.01)
train_cfg = dict(max_epochs=200, val_interval=10, clip_grad_norm=40, ema_decay=0.9999, base_batch_size=96)
