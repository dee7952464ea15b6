"""TSM-R50 on Something-Something V2, 16 frames.

What       ResNet-50 with temporal shifts; 16 frames x 224 x 224, spread over the video. Flips swap the labels of
           left-right pairs. 23.86 M parameters, 65.39 GMACs per view.
Train      bash dist_train_recognizer.sh configs/something/sthv2_tsm_r50_16.py 8
Test       bash dist_test_recognizer.sh configs/something/sthv2_tsm_r50_16.py work_dirs/sthv2_tsm_r50_16/best.pth 8
Batch      8 GPUs x 8 videos
Expected   not measured here.
Source     arXiv 1811.08383; schedule as in mmaction2, scaled to the batch size
"""

_base_ = [
    '../_base_/models/tsm_r50.py',
    '../_base_/data/something.py',
    '../_base_/schedules/sgd_step_e50_tsm.py',
    '../_base_/runtime.py',
]

data_root = 'data/something_something_v2'
num_classes = 174
filename_tmpl = '{:06d}.jpg'  # as written by TSM's tools; dsanet extract-frames writes 'img_{:05d}.jpg'
train_pipeline = '${pipeline_with_flips}'
num_snippets = 1
frames_per_snippet = 16
