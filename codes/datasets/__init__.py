"""From list files to batches: annotation, data sets, the pipeline's steps and the loader."""

from codes.datasets.loader import build_dataloader
from codes.datasets.video_datasets import MixedDataset, RawFramesDataset, VideoDataset

__all__ = ['MixedDataset', 'RawFramesDataset', 'VideoDataset', 'build_dataloader']
