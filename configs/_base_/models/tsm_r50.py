"""TSM-ResNet-50: an eighth of the channels is shifted one frame back, an eighth one frame ahead."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNetTSM',
        depth=50,
        shift_div=8,
        shift_place='blockres',
        pretrained='pretrained/resnet50-0676ba61.pth',
    ),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=2048, dropout=0.5, init_std=0.001),
)
