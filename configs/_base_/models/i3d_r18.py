"""I3D-ResNet-18 over snippets."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet_I3D',
        depth=18,
        inflate=(0, 0, 1, 1),
        pretrained='pretrained/resnet18-f37072fd.pth',
    ),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=512, dropout=0.5),
)
