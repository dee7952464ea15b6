"""Folders of JPEG frames (img_00001.jpg, ...), U snippets per video, Kinetics-400 by default.

The lists have lines `<folder> <number of frames> <label>`, with folders relative to data_root. For models without
snippets, set num_snippets = 1, and num_groups = 10 for the usual 30 test views.
"""

data_root = 'data/kinetics400'
train_list = '${data_root}/train_frames.txt'
val_list = '${data_root}/val_frames.txt'
test_list = '${val_list}'
num_snippets = 4
frames_per_snippet = 8
frame_interval = 8
num_groups = 2  # groups of snippets; x 3 crops = 6 test views
short_side = 256
crop_size = 224
flip_prob = 0.5  # 0 if a mirrored video belongs to another class
train_crop = dict(type='RandomResizedCrop', size='${crop_size}')

_sample = dict(
    type='SampleSnippets',
    num_snippets='${num_snippets}',
    frames_per_snippet='${frames_per_snippet}',
    frame_interval='${frame_interval}',
)
train_dataloader = dict(
    batch_size=12,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${train_list}',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, random=True),
            dict(type='DecodeRawFrames'),
            '${train_crop}',
            dict(type='Flip', prob='${flip_prob}'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=12,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${val_list}',
        data_root='${data_root}',
        pipeline=[
            _sample,
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side='${short_side}'),
            dict(type='CenterCrop', size='${crop_size}'),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = dict(
    batch_size=2,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${test_list}',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, num_groups='${num_groups}'),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side='${short_side}'),
            dict(type='ThreeCrop', size='${short_side}'),
            dict(type='PackInputs'),
        ],
    ),
)
