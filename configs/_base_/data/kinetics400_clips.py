"""Kinetics-400 as JPEG frames (30 fps, img_00001.jpg, ...), one dense clip a video: for models without snippets.

Needs the settings data_root, frames_per_snippet, frame_interval and num_groups (10 is usual: 30 test views with the
3 crops). A clip is the only snippet of its view, U = 1. Lists as for kinetics400_frames.py.
"""

_sample = dict(
    type='SampleSnippets',
    num_snippets=1,
    frames_per_snippet='${frames_per_snippet}',
    frame_interval='${frame_interval}',
)
train_dataloader = dict(
    batch_size=12,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/train_frames.txt',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, random=True),
            dict(type='DecodeRawFrames'),
            dict(type='RandomResizedCrop', size=224),
            dict(type='Flip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=12,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/val_frames.txt',
        data_root='${data_root}',
        pipeline=[
            _sample,
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='CenterCrop', size=224),
            dict(type='PackInputs'),
        ],
    ),
)
# num_groups clips x 3 crops
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/val_frames.txt',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, num_groups='${num_groups}'),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='ThreeCrop', size=256),
            dict(type='PackInputs'),
        ],
    ),
)
