"""Backbones, heads, the modules that go into backbones, and the recogniser that joins them."""

from codes.models.backbones.r2plus1d import R2Plus1D
from codes.models.backbones.resnet import ResNet
from codes.models.backbones.resnet_i3d import ResNet_I3D
from codes.models.backbones.resnet_tsm import ResNetTSM
from codes.models.backbones.torchvision_video import TorchvisionVideo
from codes.models.batch_augment import MixupCutmix
from codes.models.data_preprocessor import DataPreprocessor
from codes.models.heads.i3d_cls_head import I3DClsHead
from codes.models.heads.trn_head import TRNHead
from codes.models.heads.tsn_head import TSNHead
from codes.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss
from codes.models.modules_maker.DSA import DSA
from codes.models.modules_maker.MVF import MVF
from codes.models.modules_maker.non_local import NonLocal3d
from codes.models.modules_maker.TAM import TAM
from codes.models.modules_maker.temporal_shift import TemporalShift
from codes.models.modules_maker.V4D import V4D
from codes.models.recognizers.recognizer3d import Recognizer3D

__all__ = [
    'DSA',
    'MVF',
    'TAM',
    'V4D',
    'BinaryCrossEntropyLoss',
    'CrossEntropyLoss',
    'DataPreprocessor',
    'FocalLoss',
    'I3DClsHead',
    'MixupCutmix',
    'NonLocal3d',
    'R2Plus1D',
    'Recognizer3D',
    'ResNet',
    'ResNetTSM',
    'ResNet_I3D',
    'TRNHead',
    'TSNHead',
    'TemporalShift',
    'TorchvisionVideo',
]
