"""UCF101 or HMDB51 as JPEG frames (img_00001.jpg, ...), U snippets a video, one of the three official splits.

Needs the settings data_root, split (1, 2 or 3), num_snippets, frames_per_snippet, frame_interval, short_side and
crop_size. The results of
the three splits are averaged: run with --cfg-options split=2 and split=3, too.
Lists: `train_split1_frames.txt`, `val_split1_frames.txt` and so on, `<folder> <number of frames> <label>`, folders
relative to data_root.
"""

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
        list_file='${data_root}/train_split${split}_frames.txt',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, random=True),
            dict(type='DecodeRawFrames'),
            dict(type='MultiScaleCrop', size='${crop_size}', scales=(1, 0.875, 0.75, 0.66)),
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
        list_file='${data_root}/val_split${split}_frames.txt',
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
# 2 groups of snippets x 3 crops = 6 views of a video
test_dataloader = dict(
    batch_size=2,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/val_split${split}_frames.txt',
        data_root='${data_root}',
        pipeline=[
            dict(**_sample, num_groups=2),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side='${short_side}'),
            dict(type='ThreeCrop', size='${short_side}'),
            dict(type='PackInputs'),
        ],
    ),
)
