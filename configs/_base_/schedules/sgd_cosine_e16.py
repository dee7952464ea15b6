"""SGD for 16 epochs, batch size 8: two epochs of warmup, then cosine decay."""

optimizer = dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', final_factor=0.0, warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=16, val_interval=2, clip_grad_norm=10, base_batch_size=8)
