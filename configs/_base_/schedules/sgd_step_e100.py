"""The paper's schedule: SGD for 100 epochs with 10 of warm-up, tenfold lower at 50, 75 and 90; for 96 videos a step."""

optimizer = dict(type='SGD', lr=0.015, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = dict(type='StepSchedule', milestones=(50, 75, 90), gamma=0.1, warmup_epochs=10, warmup_start_factor=0.01)
train_cfg = dict(max_epochs=100, val_interval=10, clip_grad_norm=40)
