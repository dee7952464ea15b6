r"""DSA in torchvision's R(2+1)D-18, whose Kinetics-400 weights are public, finetuned on UCF101; split 1 of 3.

What       torchvision's r2plus1d_18 with DSA after its second and third stages; 4 snippets x 16 frames x 112 x 112,
           frame interval 2. 31.35 M parameters, 162.08 GMACs per view.
Train      bash dist_train_recognizer.sh configs/ucf101/ucf101_dsanet_r2plus1d_18_4x16.py 8
           split 2: --cfg-options split=2 --work-dir work_dirs/ucf101_dsanet_r2plus1d_18_4x16_split2; split 3 likewise
Test       bash dist_test_recognizer.sh configs/ucf101/ucf101_dsanet_r2plus1d_18_4x16.py \
               work_dirs/ucf101_dsanet_r2plus1d_18_4x16/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here.
Source     arXiv 1711.11248 for the network; the settings are ours
"""

_base_ = [
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_cosine_e30.py',
    '../_base_/runtime.py',
]

data_root = 'data/ucf101'
num_classes = 101
split = 1
train_list = '${data_root}/train_split${split}_frames.txt'
val_list = '${data_root}/val_split${split}_frames.txt'
train_crop = dict(type='MultiScaleCrop', size='${crop_size}', scales=(1, 0.875, 0.75, 0.66))
num_snippets = 4
frames_per_snippet = 16
frame_interval = 2
short_side = 128
crop_size = 112

model = dict(
    type='Recognizer3D',
    data_preprocessor=dict(
        type='DataPreprocessor', mean=(110.2008, 100.63983, 95.99475), std=(58.14765, 56.46975, 55.332195)
    ),
    backbone=dict(type='TorchvisionVideo', name='r2plus1d_18', pretrained='pretrained/r2plus1d_18-91a641e6.pth'),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=512, dropout=0.5),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        channel_ratio=1 / 8,
        residual=True,
        after=('net.layer2', 'net.layer3'),
    ),
)
