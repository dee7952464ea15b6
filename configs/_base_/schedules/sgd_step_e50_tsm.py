"""TSM's recipe: SGD, batch size 64, 50 epochs, lr x 0.1 at 25 and 45, head lr x 5, weight decay on filters only."""

optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
parameters = dict(lr_multipliers={'cls_head': 5}, bias_lr_multiplier=2, decay_norms=False, decay_biases=False)
schedule = dict(type='StepSchedule', milestones=(25, 45), gamma=0.1, warmup_epochs=5, warmup_start_factor=0.1)
train_cfg = dict(max_epochs=50, val_interval=5, clip_grad_norm=20, base_batch_size=64)
