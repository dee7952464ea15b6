"""For Mini-Kinetics, batch size 48: SGD as in the V4D paper, lr x 0.1 at 35, 60 and 80; gradient clipping is ours."""

optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-5)
schedule = dict(type='StepSchedule', milestones=(35, 60, 80), gamma=0.1)
train_cfg = dict(max_epochs=100, val_interval=5, clip_grad_norm=40, base_batch_size=48)
