"""For X3D: SGD, batch size 128, 300 epochs: 35 epochs of warmup, then cosine decay."""

optimizer = dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-5)
parameters = dict(decay_norms=False)
schedule = dict(type='CosineSchedule', warmup_epochs=35, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=300, val_interval=10, base_batch_size=128)
