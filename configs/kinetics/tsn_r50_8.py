"""TSN-R50 on Kinetics-400: features averaged over 8 frames of a video.

What       ResNet-50 on 8 snippets of one frame x 224 x 224, one from each eighth of the video; features averaged. 24.33
           M parameters, 32.70 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/tsn_r50_8.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/tsn_r50_8.py work_dirs/tsn_r50_8/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. The literature reports 70.6% top-1 for TSN-R50 with 10 clips.
Source     arXiv 1608.00859; partial BN as in the paper, the rest of the schedule is ours
"""

_base_ = [
    '../_base_/models/c2d_r50.py',
    '../_base_/data/segments.py',
    '../_base_/schedules/sgd_step_e100.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 8
frames_per_snippet = 1

model = dict(
    backbone=dict(partial_bn=True),
)
