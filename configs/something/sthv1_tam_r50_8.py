"""TAM-R50 (TANet) on Something-Something V1, 8 frames.

What       ResNet-50 with a temporal adaptive module in each block; 8 frames x 224 x 224, spread over the video. No
           flips: some classes differ only in direction. 25.13 M parameters, 32.77 GMACs per view.
Train      bash dist_train_recognizer.sh configs/something/sthv1_tam_r50_8.py 8
Test       bash dist_test_recognizer.sh configs/something/sthv1_tam_r50_8.py work_dirs/sthv1_tam_r50_8/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here. The authors report 46.5% top-1 (1 view).
Source     arXiv 2005.06803; schedule as in mmaction2
"""

_base_ = [
    '../_base_/models/c2d_r50.py',
    '../_base_/data/something.py',
    '../_base_/runtime.py',
]

num_classes = 174
num_snippets = 1
frames_per_snippet = 8

model = dict(
    cls_head=dict(dropout=0.6, init_std=0.001),
    module_cfg=dict(
        type='TAM',
        frames_per_snippet='${frames_per_snippet}',
        kernel_size=3,
        place='before_conv2',
        blocks=(1, 1, 1, 1),
    ),
)
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-3)
parameters = dict(lr_multipliers={'cls_head': 5}, bias_lr_multiplier=2, decay_norms=False, decay_biases=False)
schedule = dict(type='StepSchedule', milestones=(30, 40, 45), gamma=0.1)
train_cfg = dict(max_epochs=50, val_interval=5, clip_grad_norm=20, base_batch_size=64)
