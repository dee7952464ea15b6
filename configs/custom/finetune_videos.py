"""DSANet-R50 on your own videos, from ImageNet weights or from a checkpoint of a larger dataset.

What       I3D ResNet-50 with five DSA modules; 4 snippets x 8 frames x 224 x 224, frame interval 4. 31.64 M parameters,
           166.96 GMACs per view.
Data       data/my_videos/videos/...           the video files
           data/my_videos/train.txt, val.txt   one line per video: path below videos/, space, label from 0
           data/my_videos/classes.txt          one class name per line
           elsewhere: --cfg-options data_root=/path, or train_dir, val_dir, train_list, val_list, class_file
Weights    bash pretrained/download_imgnet.sh 50
Train      bash dist_train_recognizer.sh configs/custom/finetune_videos.py 1
           with --load-from CHECKPOINT to start from a model of a larger dataset instead of ImageNet
Test       bash dist_test_recognizer.sh configs/custom/finetune_videos.py work_dirs/finetune_videos/best.pth 1
Batch      1 GPU x 8 videos; with more GPUs add --scale-lr
Expected   depends on the videos; best.pth has the highest mean class accuracy
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/videos.py',
    '../_base_/runtime_own_videos.py',
]

num_classes = None  # counted in class_file, the folders or the lists

model = dict(
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    )
)
optimizer = dict(type='SGD', lr=0.00125, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=30, val_interval=1, clip_grad_norm=40, base_batch_size=8)
