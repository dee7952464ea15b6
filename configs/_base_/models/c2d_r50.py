"""ResNet-50 on single frames, features averaged: TSN, and the base of MVFNet, TAM and TRN."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet', depth=50, pretrained='pretrained/resnet50-0676ba61.pth'),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=2048, dropout=0.5),
)
