"""Your own video files, U snippets per video.

The lists have lines `<file> <label>`, with files relative to train_dir, val_dir or test_dir and labels from 0. If
the lists are None, these folders must contain one subfolder per class. The test videos are those of the validation
unless test_list and test_dir are set.
"""

dataset_type = 'VideoDataset'
data_root = 'data/my_videos'
train_dir = '${data_root}/videos'
val_dir = '${data_root}/videos'
test_dir = '${val_dir}'
train_list = '${data_root}/train.txt'
val_list = '${data_root}/val.txt'
test_list = '${val_list}'  # the best epoch is chosen on val_list
class_file = '${data_root}/classes.txt'
decoder = 'pyav'  # reads videos of any phone; the fastest for the output of dsanet transcode
num_snippets = 4
frames_per_snippet = 8
# The distance between the frames of a snippet: in frames, or by time for videos of different rates; two are None.
frame_interval = 4
fps = None  # frames per second
seconds = None  # length of a snippet
short_side = 256
crop_size = 224
flip_prob = 0.5  # 0 if a mirrored video belongs to another class

_sample = dict(
    type='SampleSnippets',
    num_snippets='${num_snippets}',
    frames_per_snippet='${frames_per_snippet}',
    frame_interval='${frame_interval}',
    fps='${fps}',
    seconds='${seconds}',
)
_train = dict(type='${dataset_type}', data_root='${train_dir}', list_file='${train_list}', class_file='${class_file}')
_val = dict(type='${dataset_type}', data_root='${val_dir}', list_file='${val_list}', class_file='${class_file}')
_test = dict(type='${dataset_type}', data_root='${test_dir}', list_file='${test_list}', class_file='${class_file}')
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        **_train,
        pipeline=[
            dict(type='OpenVideo', decoder='${decoder}'),
            dict(**_sample, random=True),
            dict(type='DecodeVideo'),
            dict(type='RandomResizedCrop', size='${crop_size}', area_range=(0.3, 1.0)),
            dict(type='Flip', prob='${flip_prob}'),
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
            dict(type='OpenVideo', decoder='${decoder}'),
            _sample,
            dict(type='DecodeVideo'),
            dict(type='Resize', short_side='${short_side}'),
            dict(type='CenterCrop', size='${crop_size}'),
            dict(type='PackInputs'),
        ],
    ),
)
# 2 groups of snippets x 3 crops = 6 test views
test_dataloader = dict(
    batch_size=2,
    num_workers=2,
    dataset=dict(
        **_test,
        pipeline=[
            dict(type='OpenVideo', decoder='${decoder}'),
            dict(**_sample, num_groups=2),
            dict(type='DecodeVideo'),
            dict(type='Resize', short_side='${short_side}'),
            dict(type='ThreeCrop', size='${short_side}'),
            dict(type='PackInputs'),
        ],
    ),
)
