"""Our equivalents of mmaction2's types and common model names; docs/from_mmaction2.md shows the table."""

_OPEN = "dict(type='OpenVideo', decoder='{}')"
_DECODE = "dict(type='DecodeVideo')"
_PACK = "dict(type='PackInputs')"
_MIX = "dict(type='MixupCutmix', mixup_alpha=0.8, cutmix_alpha=1.0)"
_SLOWONLY = "dict(type='ResNet_I3D', depth=50, inflate=(0, 0, 1, 1))"
_TAM = "dict(type='ResNet', depth=50), model.module_cfg=dict(type='TAM', place='before_conv2', blocks=(1, 1, 1, 1))"

# By mmaction2's name; types with the same name here are not listed.
EQUIVALENTS = {
    # models
    'Recognizer2D': "dict(type='Recognizer3D', ...)",
    # backbones
    'ResNet3d': "dict(type='ResNet_I3D', depth=50, inflate=(1, 1, 1, 1))",
    'I3D': "dict(type='ResNet_I3D', depth=50, inflate=(1, 1, 1, 1))",
    'ResNet3dSlowOnly': _SLOWONLY,
    'SlowOnly': _SLOWONLY,
    'ResNet2Plus1d': "dict(type='R2Plus1D', depth=34, style='mmaction2')",
    'ResNet3dSlowFast': "dict(type='SlowFast', depth=50, speed_ratio=8, lateral_norm=False)",
    'ResNet3dCSN': "dict(type='CSN', depth=152, mode='ir')",
    'TSN': "dict(type='ResNet', depth=50)",
    'TSM': "dict(type='ResNetTSM', depth=50)",
    'TANet': _TAM,
    'SwinTransformer3D': "dict(type='TorchvisionVideo', name='swin3d_t')",
    'MViT': "dict(type='TorchvisionVideo', name='mvit_v2_s')",
    # heads, losses, batch augmentation
    'I3DHead': "dict(type='I3DClsHead', num_classes=400, in_channels=2048)",
    'SlowFastHead': "dict(type='I3DClsHead', num_classes=400, in_channels=2304)",
    'X3DHead': "dict(type='TSNHead', num_classes=400, in_channels=2048)",
    'TSMHead': "dict(type='TSNHead', num_classes=400, in_channels=2048)",
    'BCELossWithLogits': "dict(type='BinaryCrossEntropyLoss')",
    'ActionDataPreprocessor': "dict(type='DataPreprocessor', mean=(...), std=(...))",
    'MixupBlending': _MIX,
    'CutmixBlending': _MIX,
    'RandomBatchAugment': _MIX,
    # datasets
    'RawframeDataset': "dict(type='RawFramesDataset', list_file=..., data_root=..., pipeline=[...])",
    'ConcatDataset': "dict(type='MixedDataset', datasets=[...])",
    # steps of a pipeline
    'SampleFrames': "dict(type='SampleSnippets', num_snippets=1, frames_per_snippet=8, frame_interval=8)",
    'DenseSampleFrames': "dict(type='SampleSnippets', num_snippets=1, frames_per_snippet=8, num_groups=10)",
    'UniformSample': "dict(type='SampleSegments', num_snippets=1, frames_per_snippet=8)",
    'DecordInit': _OPEN.format('decord'),
    'PyAVInit': _OPEN.format('pyav'),
    'OpenCVInit': _OPEN.format('opencv'),
    'DecordDecode': _DECODE,
    'PyAVDecode': _DECODE,
    'OpenCVDecode': _DECODE,
    'RawFrameDecode': "dict(type='DecodeRawFrames')",
    'FormatShape': _PACK,
    'PackActionInputs': _PACK,
    # metrics and schedules
    'AccMetric': "dict(type='Accuracy', topk=(1, 5))",
    'MultiStepLR': "dict(type='StepSchedule', milestones=(40, 80))",
    'CosineAnnealingLR': "dict(type='CosineSchedule')",
}
