"""V4D's schedule for Mini-Kinetics (its section 4.2), with 48 videos a step: SGD, 100 epochs, a tenth at 35, 60, 80."""

optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-5)
schedule = dict(type='StepSchedule', milestones=(35, 60, 80), gamma=0.1)
train_cfg = dict(max_epochs=100, val_interval=5, clip_grad_norm=40)
