r"""DSANet-R50 on your own videos with rare classes: focal loss with class weights from the data.

What       I3D ResNet-50 with five DSA modules; 4 snippets x 8 frames x 224 x 224, frame interval 4. 31.64 M parameters,
           166.96 GMACs per view.
Data       as in finetune_videos.py
Train      bash dist_train_recognizer.sh configs/custom/imbalanced_videos.py 1
Test       bash dist_test_recognizer.sh configs/custom/imbalanced_videos.py work_dirs/imbalanced_videos/best.pth 1
Batch      1 GPU x 8 videos; with more GPUs add --scale-lr
Expected   depends on the videos; best.pth has the highest mean class accuracy
Source     arXiv 1708.02002 for the loss; the settings are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/videos.py',
    '../_base_/runtime_own_videos.py',
]

num_classes = None  # counted in class_file, the folders or the lists

model = dict(
    cls_head=dict(loss=dict(type='FocalLoss', gamma=2.0, class_weights='balanced')),
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
optimizer = dict(type='SGD', lr=0.00125, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=30, val_interval=1, clip_grad_norm=40, base_batch_size=8)
