"""ir-CSN-50 on Kinetics-400, finetuned from weights of IG-65M, with the statistics of norms frozen.

What       ir-CSN with 50 layers; one clip of 32 frames x 224 x 224, frame interval 2. 13.13 M parameters, 42.31 GMACs
           per view.
Train      bash dist_train_recognizer.sh configs/kinetics/ircsn_r50_32x2.py 8
Test       bash dist_test_recognizer.sh configs/kinetics/ircsn_r50_32x2.py work_dirs/ircsn_r50_32x2/best.pth 8
Batch      8 GPUs x 12 videos
Expected   not measured here. mmaction2 reports 79.44% top-1 with 10 clips x 3 crops.
Source     arXiv 1904.02811; from mmaction2's weights ircsn_from_scratch_r50_ig65m, with its settings; the norm of the
           stem is not frozen
"""

_base_ = [
    '../_base_/data/frames.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 1
frames_per_snippet = 32
frame_interval = 2
num_groups = 10

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='CSN',
        depth=50,
        mode='ir',
        norm_eval=True,
        partial_bn=True,
        pretrained='pretrained/ircsn_from_scratch_r50_ig65m_20210617-ce545a37.pth',
    ),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=2048, dropout=0.5),
    average_views='prob',
    max_views_per_forward=6,
)
test_dataloader = dict(batch_size=1)
optimizer = dict(type='SGD', lr=5e-4, momentum=0.9, weight_decay=1e-4)
schedule = dict(type='StepSchedule', milestones=(32, 48), gamma=0.1, warmup_epochs=16, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=58, val_interval=3, clip_grad_norm=40, base_batch_size=96)
