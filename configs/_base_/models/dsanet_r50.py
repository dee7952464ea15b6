"""DSANet-R50 with all DSA options as settings, for ablations."""

num_classes = None  # counted in the data unless a config sets it
num_snippets = 4
kernel_size = 3
expansion = 2
channel_ratio = 1 / 8
place = 'before_conv2'
blocks = (0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0)

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet_I3D',
        depth=50,
        inflate=(0, 0, 1, 1),
        pretrained='pretrained/resnet50-0676ba61.pth',
    ),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=2048, dropout=0.5),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size='${kernel_size}',
        expansion='${expansion}',
        channel_ratio='${channel_ratio}',
        place='${place}',
        blocks='${blocks}',
    ),
)
