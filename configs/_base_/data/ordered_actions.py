"""The generated dataset of ordered actions (dsanet make-demo-videos), 40 x 40 pixels.

No flips: the classes differ in direction.
"""

data_root = 'data/ordered_actions'
num_snippets = 4
frames_per_snippet = 4
frame_interval = 2

_sample = dict(
    type='SampleSnippets',
    num_snippets='${num_snippets}',
    frames_per_snippet='${frames_per_snippet}',
    frame_interval='${frame_interval}',
)
_val = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(
        type='VideoDataset',
        list_file='${data_root}/val.txt',
        data_root='${data_root}',
        class_file='${data_root}/classes.txt',
        pipeline=[
            dict(type='OpenVideo', decoder='pyav'),
            _sample,
            dict(type='DecodeVideo'),
            dict(type='CenterCrop', size=40),
            dict(type='PackInputs'),
        ],
    ),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        type='VideoDataset',
        list_file='${data_root}/train.txt',
        data_root='${data_root}',
        class_file='${data_root}/classes.txt',
        pipeline=[
            dict(type='OpenVideo', decoder='pyav'),
            dict(**_sample, random=True),
            dict(type='DecodeVideo'),
            dict(type='CenterCrop', size=40),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = _val
test_dataloader = _val
