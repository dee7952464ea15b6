"""From list files to batches: annotation, data sets, the pipeline's steps and the loader."""

from codes.datasets.loader import build_dataloader
from codes.datasets.video_datasets import RawFramesDataset, VideoDataset

__all__ = ['RawFramesDataset', 'VideoDataset', 'build_dataloader']
