"""Datasets: list files, transforms, video readers and data loaders."""

from dsanet.datasets.loader import build_dataloader
from dsanet.datasets.video_datasets import MixedDataset, RawFramesDataset, VideoDataset

__all__ = ['MixedDataset', 'RawFramesDataset', 'VideoDataset', 'build_dataloader']
