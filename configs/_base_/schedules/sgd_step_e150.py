"""The schedule of MVFNet: SGD, batch size 96, 150 epochs, 10 of warmup, lr x 0.1 at 90 and 130."""

optimizer = dict(type='SGD', lr=0.015, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='StepSchedule', milestones=(90, 130), gamma=0.1, warmup_epochs=10, warmup_start_factor=0.01)
train_cfg = dict(max_epochs=150, val_interval=10, clip_grad_norm=40, base_batch_size=96)
