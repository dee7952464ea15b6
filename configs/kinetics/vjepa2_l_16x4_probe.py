r"""Attentive probe on V-JEPA 2's ViT-L on Kinetics-400: the encoder is frozen, the pooling and the classifier train.

What       ViT-L with rotary positions and attentive pooling; 16 frames x 256 x 256, frame interval 4. 353.63 M
           parameters, 935.24 GMACs per view; 49.7 M of the parameters are trained.
Weights    hf download facebook/vjepa2-vitl-fpc64-256 --local-dir pretrained/vjepa2-vitl-fpc64-256
Train      bash dist_train_recognizer.sh configs/kinetics/vjepa2_l_16x4_probe.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/vjepa2_l_16x4_probe.py work_dirs/vjepa2_l_16x4_probe/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here.
Source     arXiv 2506.09985, section 5; the settings are ours
"""

_base_ = [
    '../_base_/models/vjepa2_l_16x256.py',
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 16
frame_interval = 4
num_groups = 8  # x 3 crops = 24 test views
short_side = 256
crop_size = 256

model = dict(max_views_per_forward=2)
train_dataloader = dict(batch_size=8)
optimizer = dict(type='AdamW', lr=5e-4, weight_decay=0.05)
parameters = dict(decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule')
train_cfg = dict(max_epochs=20, val_interval=5, base_batch_size=64)
