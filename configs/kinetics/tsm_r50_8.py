"""TSM-R50 on Kinetics-400, 8 frames spread over the video.

What       ResNet-50 with temporal shifts; 8 frames x 224 x 224. 24.33 M parameters, 32.70 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/tsm_r50_8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/tsm_r50_8.py work_dirs/tsm_r50_8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The authors report 71.2% top-1 for 8 uniform frames, one clip.
Source     arXiv 1811.08383; schedule as in mmaction2, scaled to the batch size
"""

_base_ = [
    '../_base_/models/tsm_r50.py',
    '../_base_/data/segments.py',
    '../_base_/schedules/sgd_step_e50_tsm.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 8

optimizer = dict(lr=0.015, weight_decay=1e-4)
train_cfg = dict(base_batch_size=96)
