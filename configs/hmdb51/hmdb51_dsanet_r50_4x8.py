r"""DSANet-R50 on HMDB51, finetuned from Kinetics-400; split 1 of 3.

What       I3D ResNet-50 with five DSA modules; 4 snippets x 8 frames x 224 x 224, frame interval 4. The stem and the
           first stage are frozen, and all batch norms keep the statistics from Kinetics. 31.74 M parameters, 166.96
           GMACs per view.
Train      bash dist_train_recognizer.sh configs/hmdb51/hmdb51_dsanet_r50_4x8.py 8 \
               --load-from work_dirs/r50_e100_s1_8/best.pth
           split 2: --cfg-options split=2 --work-dir work_dirs/hmdb51_dsanet_r50_4x8_split2; split 3 likewise
Test       bash dist_test_recognizer.sh configs/hmdb51/hmdb51_dsanet_r50_4x8.py \
               work_dirs/hmdb51_dsanet_r50_4x8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. Results are usually reported as the mean over the three splits.
Source     arXiv 2105.12085 for the model; the settings are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_cosine_e30.py',
    '../_base_/runtime.py',
]

data_root = 'data/hmdb51'
num_classes = 51
split = 1
train_list = '${data_root}/train_split${split}_frames.txt'
val_list = '${data_root}/val_split${split}_frames.txt'
train_crop = dict(type='MultiScaleCrop', size='${crop_size}', scales=(1, 0.875, 0.75, 0.66))
num_snippets = 4
frames_per_snippet = 8
frame_interval = 4

model = dict(
    # Start from weights that include DSA: with norm_eval, batch norms of a new DSA keep their initial statistics.
    backbone=dict(frozen_stages=1, norm_eval=True),
    cls_head=dict(dropout=0.8),
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
