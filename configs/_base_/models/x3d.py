"""X3D-XS, S and M, which differ in the size of their clips only; for L set depth_factor=5.0."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(type='X3D', depth_factor=2.2),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=2048, dropout=0.5),
    data_preprocessor=dict(type='DataPreprocessor', mean=(114.75, 114.75, 114.75), std=(57.375, 57.375, 57.375)),
)
