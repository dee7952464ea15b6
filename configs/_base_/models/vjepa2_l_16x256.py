"""ViT-L of V-JEPA 2 with attentive pooling: 16 frames of 256 x 256 pixels; the encoder is frozen."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='VisionTransformer',
        embed_dim=1024,
        depth=24,
        num_heads=16,
        input_size=(16, 256, 256),
        positions='rotary',
        qkv_bias='qkv',
        pooling='attentive',
        frozen_blocks=24,
        pretrained='pretrained/vjepa2-vitl-fpc64-256/model.safetensors',
    ),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=1024, dropout=0.0),
)
