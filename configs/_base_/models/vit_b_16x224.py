"""ViT-B of VideoMAE: 16 frames of 224 x 224 pixels, from weights of its pretraining or fine-tuned ones."""

num_classes = None  # counted in the data unless a config sets it
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='VisionTransformer',
        embed_dim=768,
        depth=12,
        num_heads=12,
        pretrained='pretrained/videomae-base/model.safetensors',
    ),
    cls_head=dict(type='TSNHead', num_classes='${num_classes}', in_channels=768, dropout=0.0),
)
