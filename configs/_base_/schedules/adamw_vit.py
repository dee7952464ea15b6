"""AdamW with layer-wise learning rates and warm-up, to fine-tune vision transformers; learning rate for 512 clips."""

optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.05)
parameters = dict(layer_decay=0.75, decay_norms=False, decay_biases=False)
schedule = dict(type='CosineSchedule', warmup_epochs=5, warmup_start_factor=0.0, final_factor=0.01)
