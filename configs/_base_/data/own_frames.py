"""One's own videos as folders of JPEG frames, U snippets a video.

Needs the settings train_dir, val_dir, train_list, val_list, class_file, filename_tmpl, start_index, num_snippets,
frames_per_snippet, frame_interval, short_side and crop_size. Lists: `<folder> <number of frames> <label>`, folders
relative to train_dir or val_dir, labels from 0; without lists (None) one folder a class in train_dir and val_dir.
"""

_frames = dict(
    type='RawFramesDataset',
    class_file='${class_file}',
    filename_tmpl='${filename_tmpl}',
    start_index='${start_index}',
)
_train = dict(**_frames, data_root='${train_dir}', list_file='${train_list}')
_val = dict(**_frames, data_root='${val_dir}', list_file='${val_list}')
_sample = dict(
    type='SampleSnippets',
    num_snippets='${num_snippets}',
    frames_per_snippet='${frames_per_snippet}',
    frame_interval='${frame_interval}',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        **_train,
        pipeline=[
            dict(**_sample, random=True),
            dict(type='DecodeRawFrames'),
            dict(type='RandomResizedCrop', size='${crop_size}', area_range=(0.3, 1.0)),
            dict(type='Flip', prob=0.5),
            dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        **_val,
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
    num_workers=2,
    dataset=dict(
        **_val,
        pipeline=[
            dict(**_sample, num_groups=2),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side='${short_side}'),
            dict(type='ThreeCrop', size='${short_side}'),
            dict(type='PackInputs'),
        ],
    ),
)
