"""The steps that make a sample, each in a file of its kind; importing this package registers them."""

from codes.datasets.transforms.base import Transform
from codes.datasets.transforms.compose import Compose
from codes.datasets.transforms.decoding import DecodeRawFrames, DecodeVideo, OpenVideo
from codes.datasets.transforms.packing import PackInputs
from codes.datasets.transforms.photometric import ColorJitter, RandAugment
from codes.datasets.transforms.sampling import SampleSegments, SampleSnippets
from codes.datasets.transforms.spatial import (
    CenterCrop,
    Flip,
    MultiScaleCrop,
    RandomResizedCrop,
    Resize,
    TenCrop,
    ThreeCrop,
)

__all__ = [
    'CenterCrop',
    'ColorJitter',
    'Compose',
    'DecodeRawFrames',
    'DecodeVideo',
    'Flip',
    'MultiScaleCrop',
    'OpenVideo',
    'PackInputs',
    'RandAugment',
    'RandomResizedCrop',
    'Resize',
    'SampleSegments',
    'SampleSnippets',
    'TenCrop',
    'ThreeCrop',
    'Transform',
]
