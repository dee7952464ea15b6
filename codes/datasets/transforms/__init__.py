"""Transforms of the data pipeline; importing this package registers them."""

from dsanet.datasets.transforms.base import Transform
from dsanet.datasets.transforms.compose import Compose
from dsanet.datasets.transforms.decoding import DecodeRawFrames, DecodeVideo, OpenVideo
from dsanet.datasets.transforms.packing import PackInputs
from dsanet.datasets.transforms.photometric import ColorJitter, RandAugment, RandomErasing
from dsanet.datasets.transforms.sampling import SampleSegments, SampleSnippets
from dsanet.datasets.transforms.spatial import (
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
    'RandomErasing',
    'RandomResizedCrop',
    'Resize',
    'SampleSegments',
    'SampleSnippets',
    'TenCrop',
    'ThreeCrop',
    'Transform',
]
