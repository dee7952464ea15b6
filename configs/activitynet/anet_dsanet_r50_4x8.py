r"""DSANet-R50 on ActivityNet v1.3, whole untrimmed videos, mean average precision.

What       I3D ResNet-50 with five DSA modules; 4 snippets x 8 frames x 224 x 224, frame interval 8. 32.04 M parameters,
           166.97 GMACs per view.
Train      bash dist_train_recognizer.sh configs/activitynet/anet_dsanet_r50_4x8.py 8 \
               --load-from work_dirs/r50_e100_s1_8/best.pth
Test       bash dist_test_recognizer.sh configs/activitynet/anet_dsanet_r50_4x8.py \
               work_dirs/anet_dsanet_r50_4x8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. Secondary sources give 90.5% as the paper's best mAP, with a 3D ResNet-50.
Source     arXiv 2105.12085; the paper's settings for this dataset are not public: these are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_cosine_e30.py',
    '../_base_/runtime.py',
]

data_root = 'data/activitynet'
num_classes = 200
num_snippets = 4
frames_per_snippet = 8
frame_interval = 8

model = dict(
    average_views='prob',  # mean average precision ranks videos, which needs probabilities
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
# Validation videos can have multiple labels, which mean average precision uses; training videos have one.
val_dataloader = dict(dataset=dict(multi_hot='${num_classes}'))
test_dataloader = dict(dataset=dict(multi_hot='${num_classes}'))
metrics = [dict(type='MeanAveragePrecision')]
runtime = dict(save_best='mAP')
