r"""DSANet-R50 on your own videos together with some classes of a public dataset.

What       I3D ResNet-50 with five DSA modules; 4 snippets x 8 frames x 224 x 224, frame interval 4. 31.64 M parameters,
           166.96 GMACs per view. Three quarters of the training samples are your own, regardless of the sizes of the
           datasets; validation and test use your own videos only.
Data       as in finetune_videos.py, and
           data/kinetics400/train_frames.txt   one line per folder of frames: folder, number of frames, label
           data/kinetics400/classes.txt        one class name per line
           Both datasets use the classes of class_file. shared_classes lists the public classes, by name or number, that
           correspond to them, in the same order.
Train      bash dist_train_recognizer.sh configs/custom/mixed_videos.py 1 \
               --cfg-options "shared_classes=['clapping','waving hand']"
Test       bash dist_test_recognizer.sh configs/custom/mixed_videos.py work_dirs/mixed_videos/best.pth 1 \
               --cfg-options "shared_classes=['clapping','waving hand']"
Batch      1 GPU x 8 videos; with more GPUs add --scale-lr
Expected   depends on the videos; best.pth has the highest mean class accuracy
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/videos.py',
    '../_base_/runtime_own_videos.py',
]

public_root = 'data/kinetics400'
shared_classes = ('clapping', 'waving hand')
num_classes = None  # counted in class_file, the folders or the lists

_sample = dict(
    type='SampleSnippets',
    num_snippets='${num_snippets}',
    frames_per_snippet='${frames_per_snippet}',
    frame_interval='${frame_interval}',
    random=True,
)
_augment = [
    dict(type='RandomResizedCrop', size='${crop_size}', area_range=(0.3, 1.0), aspect_ratio_range=(0.75, 1.333)),
    dict(type='Flip', prob='${flip_prob}'),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
    dict(type='PackInputs'),
]

model = dict(
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
        type='MixedDataset',
        weights=(3, 1),
        datasets=[
            dict(
                type='VideoDataset',
                list_file='${train_list}',
                data_root='${train_dir}',
                class_file='${class_file}',
                pipeline=[
                    dict(type='OpenVideo', decoder='${decoder}', time_limit=60),
                    _sample,
                    dict(type='DecodeVideo'),
                    *_augment,
                ],
            ),
            dict(
                type='RawFramesDataset',
                list_file='${public_root}/train_frames.txt',
                data_root='${public_root}',
                class_file='${public_root}/classes.txt',
                classes='${shared_classes}',
                start_index=1,
                pipeline=[_sample, dict(type='DecodeRawFrames'), *_augment],
            ),
        ],
    )
)
optimizer = dict(type='SGD', lr=0.00125, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=30, val_interval=1, clip_grad_norm=40, patience=10, base_batch_size=8)
