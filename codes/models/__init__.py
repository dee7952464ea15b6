"""Backbones, heads, the modules that go into backbones, and the recogniser that joins them."""

from codes.models.backbones.resnet_i3d import ResNet_I3D
from codes.models.data_preprocessor import DataPreprocessor
from codes.models.heads.i3d_cls_head import I3DClsHead
from codes.models.modules_maker.DSA import DSA
from codes.models.recognizers.recognizer3d import Recognizer3D

__all__ = ['DSA', 'DataPreprocessor', 'I3DClsHead', 'Recognizer3D', 'ResNet_I3D']
