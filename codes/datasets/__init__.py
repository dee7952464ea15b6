"""Datasets: list files, transforms, video readers and data loaders."""

from dsanet.datasets.loader import build_dataloader
from dsanet.datasets.video_datasets import MixedDataset, RawFramesDataset, VideoDataset
from dsanet.datasets.web_videos import WebVideoDataset

__all__ = ['MixedDataset', 'RawFramesDataset', 'VideoDataset', 'WebVideoDataset', 'build_dataloader']
