"""Translations of the keys of SlowFast, X3D and TRN in other projects; ``layouts`` lists them.

PyTorchVideo and PySlowFast have the stages of all pathways in one list; mmaction2 has one network per pathway.
"""

import math
import re
from collections.abc import Set

import torch
from torch import Tensor

from dsanet.models.weights.renaming import BACKBONE, HEAD, State, rename

NORM_EPS = 1e-5  # of the batch norms of X3D
CLASSIFIER = f'{HEAD}fc_cls'
PATHS = ('slow_path', 'fast_path')

# PyTorchVideo's blocks: 0 the stem, 1 to 4 the stages, then the pooling and the classifier.
PYTORCHVIDEO_BLOCK = (
    (r'\.res_blocks\.', '.'),
    (r'\.branch1_conv\.', '.downsample.0.'),
    (r'\.branch1_norm\.', '.downsample.1.'),
    (r'\.branch2\.norm_b\.0\.', '.bn2.'),
    (r'\.branch2\.norm_b\.1\.block\.0\.', '.se.fc1.'),
    (r'\.branch2\.norm_b\.1\.block\.2\.', '.se.fc2.'),
    (r'\.branch2\.conv_a\.', '.conv1.'),
    (r'\.branch2\.norm_a\.', '.bn1.'),
    (r'\.branch2\.conv_b\.', '.conv2.'),
    (r'\.branch2\.norm_b\.', '.bn2.'),
    (r'\.branch2\.conv_c\.', '.conv3.'),
    (r'\.branch2\.norm_c\.', '.bn3.'),
    (r'^blocks\.\d+\.proj\.', f'{CLASSIFIER}.'),
)
from_pytorchvideo_slowfast = rename(
    (r'^blocks\.0\.multipathway_blocks\.(\d)\.conv\.', r'path\1.conv1.'),
    (r'^blocks\.0\.multipathway_blocks\.(\d)\.norm\.', r'path\1.bn1.'),
    (r'^blocks\.(\d)\.multipathway_blocks\.(\d)\.', r'path\2.layer\1.'),
    (r'^blocks\.(\d)\.multipathway_fusion\.conv_fast_to_slow\.', r'laterals.\1.0.'),
    (r'^blocks\.(\d)\.multipathway_fusion\.norm\.', r'laterals.\1.1.'),
    (r'^path0\.', 'slow_path.'),
    (r'^path1\.', 'fast_path.'),
    *PYTORCHVIDEO_BLOCK,
)
_PYTORCHVIDEO_X3D = rename(
    (r'^blocks\.0\.conv\.conv_t\.', 'conv1_s.'),  # their names of the two are exchanged
    (r'^blocks\.0\.conv\.conv_xy\.', 'conv1_t.'),
    (r'^blocks\.0\.norm\.', 'bn1.'),
    (r'^blocks\.\d+\.pool\.pre_conv\.', 'conv5.0.'),
    (r'^blocks\.\d+\.pool\.pre_norm\.', 'conv5.1.'),
    (r'^blocks\.\d+\.pool\.post_conv\.', 'lin5.'),
    (r'^blocks\.(\d)\.res_blocks\.', r'layer\1.'),
    *PYTORCHVIDEO_BLOCK,
)


def from_pytorchvideo_x3d(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate PyTorchVideo's X3D, whose first shortcut has no norm: add one that changes nothing."""
    renamed = _PYTORCHVIDEO_X3D(state, target)
    shortcut = f'{BACKBONE}layer1.0.downsample'
    weight = renamed[f'{shortcut}.0.weight']
    if f'{shortcut}.1.weight' not in renamed:
        ones = weight.new_ones(len(weight))
        renamed[f'{shortcut}.1.weight'] = ones * math.sqrt(1 + NORM_EPS)
        renamed[f'{shortcut}.1.bias'] = torch.zeros_like(ones)
        renamed[f'{shortcut}.1.running_mean'] = torch.zeros_like(ones)
        renamed[f'{shortcut}.1.running_var'] = ones
        renamed[f'{shortcut}.1.num_batches_tracked'] = torch.zeros_like(ones[0], dtype=torch.long)
    return renamed


# PySlowFast: s1 is the stem, s2 to s5 are the stages; s1_fuse to s4_fuse follow them.
_PYSLOWFAST = (
    (r'^s1\.pathway(\d)_stem\.conv\.', r'path\1.conv1.'),
    (r'^s1\.pathway(\d)_stem\.bn\.', r'path\1.bn1.'),
    *((rf'^s{i + 1}\.pathway(\d)_res(\d+)\.', rf'path\1.layer{i}.\2.') for i in range(1, 5)),
    *((rf'^s{i + 1}_fuse\.conv_f2s\.', f'laterals.{i}.0.') for i in range(4)),
    *((rf'^s{i + 1}_fuse\.bn\.', f'laterals.{i}.1.') for i in range(4)),
    (r'\.branch1\.', '.downsample.0.'),
    (r'\.branch1_bn\.', '.downsample.1.'),
    *((rf'\.branch2\.{letter}\.', f'.conv{i + 1}.') for i, letter in enumerate('abc')),
    *((rf'\.branch2\.{letter}_bn\.', f'.bn{i + 1}.') for i, letter in enumerate('abc')),
    (r'\.branch2\.se\.', '.se.'),
    (r'^head\.projection\.', f'{CLASSIFIER}.'),
)
from_pyslowfast_slowfast = rename(*_PYSLOWFAST, (r'^path0\.', 'slow_path.'), (r'^path1\.', 'fast_path.'))
from_pyslowfast_resnet = rename(*_PYSLOWFAST, (r'^path0\.', ''))
from_pyslowfast_x3d = rename(
    (r'^s1\.pathway0_stem\.conv_xy\.', 'conv1_s.'),
    (r'^s1\.pathway0_stem\.conv\.', 'conv1_t.'),
    (r'^head\.conv_5\.', 'conv5.0.'),
    (r'^head\.conv_5_bn\.', 'conv5.1.'),
    (r'^head\.lin_5\.', 'lin5.'),
    *_PYSLOWFAST,
    (r'^path0\.', ''),
)


def find_pyslowfast_strides(state: State) -> dict[str, int]:
    """Infer the temporal strides of PySlowFast's ResNets: Slow has none, I3D pools after the first stage.

    C2D has the same shapes with and without this pooling.
    """
    stem = state['s1.pathway0_stem.conv.weight'].shape[2]
    late = state['s5.pathway0_res0.branch2.a.weight'].shape[2]
    if stem == 1 and late == 1:
        return {}
    return {'conv1_stride_t': 1, 'pool1_stride_t': 1, 'pool2_stride_t': 2 if stem > 1 else 1}


# mmaction2 has one module for convolution and norm.
MMACTION2_BLOCK = (
    (r'downsample\.conv\.', 'downsample.0.'),
    (r'downsample\.bn\.', 'downsample.1.'),
    (r'conv(\d)\.conv\.', r'conv\1.'),
    (r'conv(\d)\.bn\.', r'bn\1.'),
)
_MMACTION2_SLOWFAST = rename(
    (r'slow_path\.conv1_lateral\.conv\.', 'laterals.0.0.'),
    (r'slow_path\.conv1_lateral\.bn\.', 'laterals.0.1.'),
    (r'slow_path\.layer(\d)_lateral\.conv\.', r'laterals.\1.0.'),
    (r'slow_path\.layer(\d)_lateral\.bn\.', r'laterals.\1.1.'),
    *MMACTION2_BLOCK,
)
_MMACTION2_X3D = rename(
    (r'conv1_s\.conv\.', 'conv1_s.'),
    (r'conv1_t\.conv\.', 'conv1_t.'),
    (r'conv1_t\.bn\.', 'bn1.'),
    (r'conv5\.conv\.', 'conv5.0.'),
    (r'conv5\.bn\.', 'conv5.1.'),
    (r'\.se_module\.', '.se.'),
    *MMACTION2_BLOCK,
    (r'^cls_head\.fc1\.', f'{BACKBONE}lin5.'),
    (r'^cls_head\.fc2\.', f'{CLASSIFIER}.'),
)
_MMACTION2_IRCSN = rename((r'\.conv2\.0\.conv\.', '.conv2.0.'), (r'\.conv2\.0\.bn\.', '.bn2.'), *MMACTION2_BLOCK)
_MMACTION2_IPCSN = rename(
    (r'\.conv2\.0\.conv\.', '.conv2.0.'),
    (r'\.conv2\.0\.bn\.', '.conv2.1.'),
    (r'\.conv2\.1\.conv\.', '.conv2.2.'),
    (r'\.conv2\.1\.bn\.', '.bn2.'),
    *MMACTION2_BLOCK,
)
_MMACTION2_TRN = rename(
    *MMACTION2_BLOCK,
    (r'^cls_head\.fc_cls\.', f'{HEAD}reduce.'),
    (r'^cls_head\.consensus\.classifier\.', f'{HEAD}relations.0.'),
)


def from_mmaction2_slowfast(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate mmaction2's SlowFast, whose classifier has the features of the fast pathway first."""
    renamed = _MMACTION2_SLOWFAST(state, target)
    if (weight := renamed.get(f'{CLASSIFIER}.weight')) is not None:
        fast = weight.shape[1] // 9  # the slow pathway has 8 times as many
        renamed[f'{CLASSIFIER}.weight'] = torch.cat([weight[:, fast:], weight[:, :fast]], dim=1)
    return renamed


def from_mmaction2_csn(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate mmaction2's CSN; ip-CSN has two modules instead of one in the middle of a block."""
    has_two = any('.conv2.1.conv.' in key for key in state)
    return (_MMACTION2_IPCSN if has_two else _MMACTION2_IRCSN)(state, target)


def from_mmaction2_x3d(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate mmaction2's X3D, whose head has the last layer before the classifier as a linear one."""
    renamed = _MMACTION2_X3D(state, target)
    if (weight := renamed.get(f'{BACKBONE}lin5.weight')) is not None:
        renamed[f'{BACKBONE}lin5.weight'] = weight[:, :, None, None, None]  # (2048, C, 1, 1, 1)
    return renamed


def from_mmaction2_trn(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate mmaction2's TRN.

    Its scales are in descending order, and its scores are sums over at most 3 random tuples of a scale. Ours are means
    over all tuples, so the last layer is multiplied by the number of tuples in the sum.
    """
    renamed = _MMACTION2_TRN(state, target)
    pattern = re.compile(rf'^{re.escape(HEAD)}consensus\.fc_fusion_scales\.(\d+)\.(.*)')
    matches = {key: match for key in renamed if (match := pattern.search(key))}
    num_snippets = 1 + len({match[1] for match in matches.values()})
    for key, match in matches.items():
        length = num_snippets - int(match[1])
        value = renamed.pop(key)
        if match[2].startswith('3.'):
            value = value * min(3, math.comb(num_snippets, length))
        renamed[f'{HEAD}relations.{length - 2}.{match[2]}'] = value
    return renamed
