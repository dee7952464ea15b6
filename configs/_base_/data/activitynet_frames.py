"""ActivityNet v1.3 as JPEG frames (img_00001.jpg, ...), whole untrimmed videos, U snippets a video.

Needs the settings data_root, num_classes, num_snippets, frames_per_snippet and frame_interval.
Lists: `<folder> <number of frames> <label>`, folders relative to data_root. A validation video may have several labels,
joined by commas, as mean average precision counts them all; a training video has one.
The page needs metrics=[dict(type='MeanAveragePrecision')], runtime=dict(save_best='mAP') and, with a loss over softmax,
model.average_views='prob', so that probabilities are ranked.
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
        multi_hot='${num_classes}',
        pipeline=[
            _sample,
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='CenterCrop', size=224),
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
        list_file='${data_root}/val_frames.txt',
        data_root='${data_root}',
        multi_hot='${num_classes}',
        pipeline=[
            dict(**_sample, num_groups=2),
            dict(type='DecodeRawFrames'),
            dict(type='Resize', short_side=256),
            dict(type='ThreeCrop', size=256),
            dict(type='PackInputs'),
        ],
    ),
)
