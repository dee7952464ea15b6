"""I3D-ResNet-50 over snippets: the backbone of the main experiment."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet_I3D',
        depth=50,
        inflate=(0, 0, 1, 1),
        inflate_style='3x1x1',
        pretrained='pretrained/resnet50-0676ba61.pth',
    ),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=2048, dropout=0.5),
)
