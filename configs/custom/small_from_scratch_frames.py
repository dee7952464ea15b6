r"""small_from_scratch.py on folders of frames instead of video files.

What       I3D-ResNet-18 of width 16 with DSA in the last three stages; 4 snippets x 4 frames x 112 x 112, frame
           interval 4. 1.993 M parameters, 1.040 GMACs per view.
Data       data/my_videos/frames/...                   one folder per video: img_00001.jpg, img_00002.jpg, ...
           data/my_videos/train_frames.txt, val_...    one line per video: folder below frames/, number of frames, label
           data/my_videos/classes.txt                  one class name per line
           created by
           dsanet extract-frames data/my_videos/videos data/my_videos/frames
           dsanet build-list folders data/my_videos/frames data/my_videos --frames \
               --val-fraction 0.2 --relative-to data/my_videos/frames
Train      bash dist_train_recognizer.sh configs/custom/small_from_scratch_frames.py 1
Test       bash dist_test_recognizer.sh configs/custom/small_from_scratch_frames.py \
               work_dirs/small_from_scratch_frames/best.pth 1
Batch      1 process x 8 videos
Expected   as in small_from_scratch.py
"""

_base_ = [
    '../_base_/data/frames.py',
    '../_base_/runtime_own_videos.py',
]

data_root = 'data/my_videos'
train_dir = '${data_root}/frames'
val_dir = '${data_root}/frames'
test_dir = '${val_dir}'
train_list = '${data_root}/train_frames.txt'
val_list = '${data_root}/val_frames.txt'
class_file = '${data_root}/classes.txt'
num_classes = None  # counted in class_file, the folders or the lists
frames_per_snippet = 4
frame_interval = 4
short_side = 128
crop_size = 112

_frames = dict(
    class_file='${class_file}',
    filename_tmpl='img_{:05d}.jpg',  # as dsanet extract-frames names them
    start_index=1,
)

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
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        **_frames,
        data_root='${train_dir}',
        pipeline=[
            dict(
                type='SampleSnippets',
                num_snippets='${num_snippets}',
                frames_per_snippet='${frames_per_snippet}',
                frame_interval='${frame_interval}',
                random=True,
            ),
            dict(type='DecodeRawFrames'),
            dict(type='RandomResizedCrop', size='${crop_size}', area_range=(0.3, 1.0)),
            dict(type='Flip', prob='${flip_prob}'),
            dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(**_frames, data_root='${val_dir}'))
test_dataloader = dict(num_workers=2, dataset=dict(**_frames, data_root='${test_dir}'))
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=20, val_interval=1, clip_grad_norm=10, base_batch_size=8)
