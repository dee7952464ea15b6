"""From list files to batches: annotation, datasets, the pipeline's steps and the loader."""

from dsanet.datasets.loader import build_dataloader
from dsanet.datasets.video_datasets import MixedDataset, RawFramesDataset, VideoDataset

__all__ = ['MixedDataset', 'RawFramesDataset', 'VideoDataset', 'build_dataloader']
