"""DSANet: train, test and use video action recognizers.

The names in ``__all__`` are the stable public API; everything else may change.

>>> import dsanet
>>> dsanet.list_models('kinetics/dsanet_*')
['kinetics/dsanet_mvfnet_r50_4x8', 'kinetics/dsanet_r101_4x8', ...]
>>> model = dsanet.build_model('kinetics/r50_e100_s1_8')

Letters and names in all configs, docstrings and shape comments:

======  =======================  ==============================================================
letter  name in code and config  meaning
======  =======================  ==============================================================
N       batch size               videos in a batch
V       ``num_views``            test views of a video: temporal groups x spatial crops;
                                 1 in training
U       ``num_snippets``         snippets of one view, which DSA aggregates
T       ``frames_per_snippet``   frames of one snippet, ``frame_interval`` apart
C, H, W channels, height, width
K       ``num_classes``
L       ``kernel_size``          length of the DSA kernel along U
======  =======================  ==============================================================

Every view, reshape and permute has a comment with its resulting shape, such as ``# (N*V, U, C, T, H, W)``.
"""

import importlib

__version__ = '0.1.0'

__all__ = [
    'Prediction',
    'Recognizer',
    '__version__',
    'build_model',
    'inference_recognizer',
    'init_recognizer',
    'list_models',
    'load_config',
    'load_recognizer',
    'load_weights',
]

TYPE_CHECKING = False  # True for type checkers; not imported from typing, so that commands start fast
if TYPE_CHECKING:
    from dsanet.apis import (
        Prediction,
        Recognizer,
        build_model,
        inference_recognizer,
        init_recognizer,
        list_models,
        load_config,
        load_recognizer,
        load_weights,
    )
else:

    def __getattr__(name: str) -> object:
        # Imported on first use, because torch is slow to import: `import dsanet` and the command line start fast.
        if name not in __all__:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        return getattr(importlib.import_module('dsanet.apis'), name)


def __dir__() -> list[str]:
    return __all__
