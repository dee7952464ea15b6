"""Folders of JPEG frames, sampled from equal segments of the video as in TSN, TSM and TAM; Kinetics-400 by default.

Lists as in frames.py. The default num_snippets = 1 is for models without snippets.
"""

data_root = 'data/kinetics400'
num_snippets = 1
frames_per_snippet = 8

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
# 2 groups of frames x 3 crops = 6 test views
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
