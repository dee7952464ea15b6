"""As runtime.py, for your own videos: the best epoch is that with the highest mean class accuracy.

One's own classes often differ in size, and top-1 accuracy rewards predicting the most frequent class.
"""

metrics = [dict(type='Accuracy', topk=(1,)), dict(type='MeanClassAccuracy')]
runtime = dict(seed=0, log_interval=20, keep_checkpoints=2, save_best='mean_class_accuracy')
