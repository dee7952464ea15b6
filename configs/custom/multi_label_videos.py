r"""DSANet-R50 on your own videos with multiple labels each.

What       I3D ResNet-50 with five DSA modules and a binary cross entropy for each class; 4 snippets x 8 frames x 224 x
           224, frame interval 4. 31.64 M parameters, 166.96 GMACs per view.
Data       as in finetune_videos.py, with lines of the form `path 3,17`: labels from 0, joined by commas
Train      bash dist_train_recognizer.sh configs/custom/multi_label_videos.py 1
Test       bash dist_test_recognizer.sh configs/custom/multi_label_videos.py work_dirs/multi_label_videos/best.pth 1
Batch      1 GPU x 8 videos; with more GPUs add --scale-lr
Expected   depends on the videos; mean average precision is reported
Source     arXiv 2105.12085 for the model; the settings are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/videos.py',
    '../_base_/runtime.py',
]

num_classes = None  # counted in class_file, the folders or the lists

model = dict(
    cls_head=dict(loss=dict(type='BinaryCrossEntropyLoss', positive_weight=2.0)),
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
train_dataloader = dict(dataset=dict(multi_hot='${num_classes}'))
val_dataloader = dict(dataset=dict(multi_hot='${num_classes}'))
test_dataloader = dict(dataset=dict(multi_hot='${num_classes}'))
metrics = [dict(type='MeanAveragePrecision')]
runtime = dict(save_best='mAP')
optimizer = dict(type='SGD', lr=0.00125, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=30, val_interval=1, clip_grad_norm=40, base_batch_size=8)
