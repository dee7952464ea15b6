"""Something-Something V2 as JPEG frames, mirrored by chance, with the labels that change by it.

Needs the settings data_root, filename_tmpl ('{:06d}.jpg' as TSM's tools name frames), num_snippets and
frames_per_snippet; models without snippets take num_snippets = 1 and 8 or 16 frames. Lists: `<folder> <number of
frames> <label>`, folders relative to data_root, labels numbered as in the data set's own
something-something-v2-labels.json. something_frames.py is the same without flips.
"""

# Pulling and pushing something from left to right and from right to left; turning the camera left and right.
_left_and_right = ((86, 87), (93, 94), (166, 167))
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
            dict(type='MultiScaleCrop', size=224, scales=(1, 0.875, 0.75, 0.66)),
            dict(type='Flip', prob=0.5, swap_labels=_left_and_right),
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
