"""SGD for 30 epochs of finetuning, batch size 96: two epochs of warmup, then cosine decay."""

optimizer = dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='CosineSchedule', warmup_epochs=2, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=30, val_interval=2, clip_grad_norm=40, base_batch_size=96)
