r"""DSANet on TSM-R50, Something-Something V2, 16 frames.

What       ResNet-50 with temporal shifts inside snippets and five DSA modules between them; 4 snippets x 4 frames x 224
           x 224, spread over the video. Flips swap the labels of left-right pairs. 23.86 M parameters, 65.40 GMACs per
           view.
Train      bash dist_train_recognizer.sh configs/something/sthv2_dsanet_tsm_r50_16.py 8
Test       bash dist_test_recognizer.sh configs/something/sthv2_dsanet_tsm_r50_16.py \
               work_dirs/sthv2_dsanet_tsm_r50_16/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here.
Source     arXiv 2105.12085; the paper's settings for this dataset are not public: these are ours; schedule as for TSM
"""

_base_ = [
    '../_base_/models/tsm_r50.py',
    '../_base_/data/something.py',
    '../_base_/schedules/sgd_step_e50_tsm.py',
    '../_base_/runtime.py',
]

data_root = 'data/something_something_v2'
num_classes = 174
filename_tmpl = '{:06d}.jpg'  # as written by TSM's tools; dsanet extract-frames writes 'img_{:05d}.jpg'
train_pipeline = '${pipeline_with_flips}'
num_snippets = 4
frames_per_snippet = 4

model = dict(
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size=3,
        expansion=2,
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
)
