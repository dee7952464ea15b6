r"""DSANet-R50 on Kinetics-400 on a single GPU: the main experiment with eight batches per step.

What       Network and schedule of r50_e100_s1_8.py. As on 8 GPUs, an optimizer step uses 96 videos (here in eight
           batches), and batch norms see 12 at a time. Mixed precision and activation checkpointing save memory;
           checkpoints are also written within the long epochs. 32.45 M parameters, 166.97 GMACs per view.
Train      bash dist_train_recognizer.sh configs/kinetics/dsanet_r50_4x8_one_gpu.py 1
Test       bash dist_test_recognizer.sh configs/kinetics/dsanet_r50_4x8_one_gpu.py \
               work_dirs/dsanet_r50_4x8_one_gpu/best.pth 1
Batch      1 GPU x 12 videos x 8 batches
Expected   not measured here.
Source     as in r50_e100_s1_8.py; the changes for one GPU are ours
"""

_base_ = [
    '../_base_/models/i3d_r50.py',
    '../_base_/data/frames.py',
    '../_base_/schedules/sgd_step_e100.py',
    '../_base_/runtime.py',
]

num_classes = 400
num_snippets = 4
frames_per_snippet = 8
frame_interval = 8

model = dict(
    backbone=dict(activation_checkpointing=True),
    module_cfg=dict(
        type='DSA',
        num_snippets='${num_snippets}',
        kernel_size=3,
        expansion=2,
        channel_ratio=1 / 8,
        place='before_conv2',
        blocks=(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0),
    ),
)
train_cfg = dict(accumulate=8)
runtime = dict(amp='bf16', checkpoint_interval=500)
