"""Options shared by all experiments: metrics, seed, log interval, number of checkpoints."""

metrics = [dict(type='Accuracy', topk=(1, 5)), dict(type='MeanClassAccuracy')]
runtime = dict(seed=0, log_interval=20, keep_checkpoints=2, save_best='top1')
