r"""DSANet on a vision transformer, ordered actions: attention inside the snippets, DSA between them.

What       Vision transformer of 4 blocks and 64 channels with DSA on all channels after each of the first three blocks;
           4 snippets x 4 frames x 40 x 40. 0.144 M parameters, 0.106 GMACs per view.
Train      bash dist_train_recognizer.sh configs/demo/dsanet_vit_ordered_actions.py 1
Test       bash dist_test_recognizer.sh configs/demo/dsanet_vit_ordered_actions.py \
               work_dirs/dsanet_vit_ordered_actions/best.pth 1
Batch      1 process x 8 videos
Expected   top-1 100% with each of the seeds 0, 1, 2; without DSA (--cfg-options model.module_cfg=None) 47.5% with seed
           0 (measured, last epoch, 160 videos)
Source     generated data; settings are ours
"""

_base_ = [
    '../_base_/models/vit_tiny.py',
    '../_base_/data/ordered_actions.py',
    '../_base_/schedules/sgd_cosine_e16.py',
    '../_base_/runtime.py',
]

num_classes = 8

model = dict(
    module_cfg=dict(
        type='DSA', num_snippets='${num_snippets}', channel_ratio=1, place='after_block', blocks=((1, 1, 1, 0),)
    )
)
optimizer = dict(type='AdamW', lr=1.5e-3, weight_decay=0.05)
parameters = dict(lr_multipliers={'dsa': 5}, decay_norms=False, decay_biases=False)
