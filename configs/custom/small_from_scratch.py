"""A small DSANet for your own videos, from scratch, on a computer without a GPU.

What       I3D-ResNet-18 of width 16 with DSA in the last three stages; 4 snippets x 4 frames x 112 x 112, frame
           interval 4. 1.993 M parameters, 1.040 GMACs per view.
Data       as in finetune_videos.py
Train      bash dist_train_recognizer.sh configs/custom/small_from_scratch.py 1
Test       bash dist_test_recognizer.sh configs/custom/small_from_scratch.py work_dirs/small_from_scratch/best.pth 1
Batch      1 process x 8 videos
Expected   depends on the videos; with a few hundred videos, better than predicting the majority class and far below a
           pretrained network
"""

_base_ = [
    '../_base_/data/videos.py',
    '../_base_/runtime_own_videos.py',
]

num_classes = None  # counted in class_file, the folders or the lists
frames_per_snippet = 4
short_side = 128
crop_size = 112

model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet_I3D', depth=18, base_channels=16, inflate=(0, 0, 1, 1)),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=128, dropout=0.2),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1,
        place='before_conv2',
        blocks=(0, (0, 1), (0, 1), (0, 1)),
    ),
)
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=20, val_interval=1, clip_grad_norm=10, base_batch_size=8)
