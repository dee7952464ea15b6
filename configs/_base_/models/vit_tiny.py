"""A vision transformer of 4 blocks and 64 channels for small frames and two CPU cores."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='VisionTransformer',
        embed_dim=64,
        depth=4,
        num_heads=4,
        mlp_ratio=2,
        patch_size=5,
        tubelet_size=2,
        input_size=(4, 40, 40),
    ),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=64, dropout=0.0),
)
