"""DSANet: training, testing and using video action recognisers.

Letters and names, the same in every config, docstring and shape comment of this package:

======  =======================  ==============================================================
letter  name in code and config  meaning
======  =======================  ==============================================================
N       batch size               videos in a batch
V       ``num_views``            test views of a video: temporal groups x spatial crops;
                                 1 in training
U       ``num_snippets``         snippets that DSA relates to each other inside one view
T       ``frames_per_snippet``   frames of one snippet, ``frame_interval`` apart
C, H, W channels, height, width
K       ``num_classes``
L       ``kernel_size``          length of the DSA kernel along U
======  =======================  ==============================================================

Every view, reshape and permute ends with the shape that it makes, such as ``# (N*V, U, C, T, H, W)``.
"""

__version__ = '0.1.0'
