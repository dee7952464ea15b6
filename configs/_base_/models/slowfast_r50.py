"""SlowFast-R50 with 32 frames: the input and the networks of the authors' weights."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(type='SlowFast', depth=50, speed_ratio=8, lateral_kernel_t=5, slow_sampling='linspace'),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=2304, dropout=0.5),
    data_preprocessor=dict(type='DataPreprocessor', mean=(114.75, 114.75, 114.75), std=(57.375, 57.375, 57.375)),
)
