"""For SlowFast: SGD, batch size 64, 196 epochs: 34 epochs of warmup, then cosine decay."""

optimizer = dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
parameters = dict(decay_norms=False)
schedule = dict(type='CosineSchedule', warmup_epochs=34, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=196, val_interval=10, base_batch_size=64)
