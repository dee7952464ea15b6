"""Something-Something as JPEG frames, spread over the whole video as in TSM and TAM, never mirrored.

Needs the settings data_root, filename_tmpl ('{:05}.jpg' for the frames of V1, '{:06d}.jpg' for those of V2 as TSM's
tools name them; the first frame is number 1), num_snippets and frames_per_snippet; models without snippets take
num_snippets = 1 and 8 or 16 frames. Lists: `<folder> <number of frames> <label>`, folders relative to data_root.

Some classes differ by direction alone, so there is no flip here. With one that swaps their labels, V2 has
something_v2_frames.py.
"""

_sample = dict(type='SampleSegments', num_snippets='${num_snippets}', frames_per_snippet='${frames_per_snippet}')
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/train_frames.txt',
        data_root='${data_root}',
        filename_tmpl='${filename_tmpl}',
        pipeline=[
            dict(**_sample, random=True),
            dict(type='DecodeRawFrames'),
            dict(type='MultiScaleCrop', size=224, scales=(1, 0.875, 0.75, 0.66), max_distort=1),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type='RawFramesDataset',
        list_file='${data_root}/val_frames.txt',
        data_root='${data_root}',
        filename_tmpl='${filename_tmpl}',
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
        filename_tmpl='${filename_tmpl}',
        pipeline=[
            dict(**_sample, num_groups=2),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='ThreeCrop', size=256),
            dict(type='PackInputs'),
        ],
    ),
)
