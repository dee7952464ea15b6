r"""Attentive probe on your own videos: the frozen ViT-L of V-JEPA 2, and a trained attentive pooling and classifier.

What       ViT-L of V-JEPA 2; 1 snippet x 16 frames x 256 x 256 at 7.5 frames per second, 2.1 s, whatever the rates of
           the videos. Only the pooling of the tokens (three blocks and a query) and the classifier are trained.
           353.22 M parameters, 935.24 GMACs per view.
Data       as in finetune_videos.py
Weights    hf download facebook/vjepa2-vitl-fpc64-256 --local-dir pretrained/vjepa2-vitl-fpc64-256
Train      bash dist_train_recognizer.sh configs/custom/probe_vit_l.py 1
Test       bash dist_test_recognizer.sh configs/custom/probe_vit_l.py work_dirs/probe_vit_l/best.pth 1
Batch      1 GPU x 8 videos; with more GPUs add --scale-lr
Expected   depends on the videos; best.pth has the highest mean class accuracy
Source     arXiv 2506.09985 and the evaluation configs of its release: four-layer probe with 16 heads, 20 epochs, cosine
           schedule without warm-up; learning rate and weight decay are from its grid, 1e-4 to 5e-3 and 0.01 to 0.8
"""

_base_ = [
    '../_base_/models/vjepa2_l_16x256.py',
    '../_base_/data/videos.py',
    '../_base_/runtime_own_videos.py',
]

num_snippets = 1
frames_per_snippet = 16
frame_interval = None
fps = 7.5
crop_size = 256

model = dict(max_views_per_forward=6)
optimizer = dict(type='AdamW', lr=3e-4, weight_decay=0.1)
parameters = dict(decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule')
train_cfg = dict(max_epochs=20, val_interval=1, base_batch_size=8)
runtime = dict(amp='bf16')
