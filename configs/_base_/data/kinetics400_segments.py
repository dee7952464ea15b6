"""Kinetics-400 as JPEG frames (img_00001.jpg, ...), frames spread over the whole video as in TSN, TSM and TAM.

Needs the settings data_root, num_snippets and frames_per_snippet; models without snippets take num_snippets = 1.
Lists as for kinetics400_frames.py.
"""

_sample = dict(type='SampleSegments', num_snippets='${num_snippets}', frames_per_snippet='${frames_per_snippet}')
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
            dict(type='MultiScaleCrop', size=224, scales=(1, 0.875, 0.75, 0.66)),
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
# 2 groups of frames x 3 crops = 6 views of a video
test_dataloader = dict(
    batch_size=2,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/val_frames.txt',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, num_groups=2),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='ThreeCrop', size=256),
            dict(type='PackInputs'),
        ],
    ),
)
