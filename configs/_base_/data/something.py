"""Something-Something as JPEG frames, V1 by default.

V1 is trained without flips, because some classes differ only in direction. In V2, such classes come in left-right
pairs, so a flip can swap their labels: train_pipeline = '${pipeline_with_flips}'. The labels of V2 are those of
something-something-v2-labels.json. Frame numbers start at 1. filename_tmpl is '{:05}.jpg' for V1, and '{:06d}.jpg' for
V2 frames extracted by TSM's tools.
"""

data_root = 'data/something_something_v1'
filename_tmpl = '{:05}.jpg'
num_snippets = 1
frames_per_snippet = 8
train_pipeline = '${pipeline_without_flips}'

_sample = dict(type='SampleSegments', num_snippets='${num_snippets}', frames_per_snippet='${frames_per_snippet}')
_scales = (1, 0.875, 0.75, 0.66)
# Pulling and pushing something from left to right and from right to left; turning the camera left and right.
_left_and_right = ((86, 87), (93, 94), (166, 167))
pipeline_without_flips = [
    dict(**_sample, random=True),
    dict(type='DecodeRawFrames'),
    dict(type='MultiScaleCrop', size=224, scales=_scales, max_distort=1),
    dict(type='PackInputs'),
]
pipeline_with_flips = [
    dict(**_sample, random=True),
    dict(type='DecodeRawFrames'),
    dict(type='MultiScaleCrop', size=224, scales=_scales),
    dict(type='Flip', prob=0.5, swap_labels=_left_and_right),
    dict(type='PackInputs'),
]

_frames = dict(type='RawFramesDataset', data_root='${data_root}', filename_tmpl='${filename_tmpl}')
_val = dict(**_frames, list_file='${data_root}/val_frames.txt')
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(**_frames, list_file='${data_root}/train_frames.txt', pipeline='${train_pipeline}'),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        **_val,
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
        **_val,
        pipeline=[
            dict(**_sample, num_groups=2),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='ThreeCrop', size=256),
            dict(type='PackInputs'),
        ],
    ),
)
