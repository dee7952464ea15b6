"""Backbones, heads, modules for insertion into backbones, losses and the recognizer."""

from dsanet.models.backbones.r2plus1d import R2Plus1D
from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.backbones.resnet_tsm import ResNetTSM
from dsanet.models.backbones.torchvision_video import TorchvisionVideo
from dsanet.models.backbones.vision_transformer import VisionTransformer
from dsanet.models.batch_augment import MixupCutmix
from dsanet.models.data_preprocessor import DataPreprocessor
from dsanet.models.heads.attentive_head import AttentiveHead
from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.heads.trn_head import TRNHead
from dsanet.models.heads.tsn_head import TSNHead
from dsanet.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss
from dsanet.models.modules_maker.DSA import DSA
from dsanet.models.modules_maker.MVF import MVF
from dsanet.models.modules_maker.non_local import NonLocal3d
from dsanet.models.modules_maker.TAM import TAM
from dsanet.models.modules_maker.temporal_shift import TemporalShift
from dsanet.models.modules_maker.V4D import V4D
from dsanet.models.recognizers.recognizer3d import Recognizer3D

__all__ = [
    'DSA',
    'MVF',
    'TAM',
    'V4D',
    'AttentiveHead',
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
    'VisionTransformer',
]
