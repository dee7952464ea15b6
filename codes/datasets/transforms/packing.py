"""Convert frames to the input tensor."""

import numpy as np
import torch

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform

_META_KEYS = ('label', 'path', 'index')


@TRANSFORMS.register_module()
class PackInputs(Transform):
    """Convert ``frames`` to ``inputs``, uint8 (V, U, C, T, H, W); of the other keys, keep label, path and index.

    V is the number of groups in ``frame_indices`` times the number of crops, crop-major: first the groups of crop 0,
    then those of crop 1, ... The tensor is a permuted view of channels-last memory: nothing is copied here, and
    the model uses channels last.
    """

    requires = ('frames', 'frame_indices')
    provides = ('inputs',)
    removes = (
        'frames',
        'frame_indices',
        'frame_times',
        'rng',
        'num_frames',
        'filename_tmpl',
        'start_index',
        'fps',
        'reader',
        'span',
    )

    def __call__(self, record: Record) -> Record:
        frames = torch.from_numpy(np.ascontiguousarray(record['frames']))
        _, num_snippets, frames_per_snippet = record['frame_indices'].shape
        _, height, width, channels = frames.shape
        views = frames.view(-1, num_snippets, frames_per_snippet, height, width, channels)  # (V, U, T, H, W, C)
        packed: Record = {'inputs': views.permute(0, 1, 5, 2, 3, 4)}  # (V, U, C, T, H, W)
        return packed | {key: record[key] for key in _META_KEYS if key in record}
