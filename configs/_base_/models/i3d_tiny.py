"""I3D-ResNet-10 of width 16 for small frames and two CPU cores."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet_I3D', depth=10, base_channels=16, inflate=(1, 1, 0, 0)),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=128, dropout=0.0),
)
