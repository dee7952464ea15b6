"""Layouts of checkpoints: how others name the weights of networks that we have too.

Each entry of ``LAYOUTS`` recognizes a layout by its keys and translates them to ours, which are

- ``backbone.conv1``, ``bn1``, ``layer1.0.conv1``, ``layer1.0.bn1``, ``layer2.0.downsample.0``: torchvision's names;
- ``backbone.conv1.spatial``, ``.norm`` and ``.temporal`` where R(2+1)D has two convolutions instead of one;
- ``backbone.net.*`` for networks that are taken from torchvision as they are;
- ``backbone.layer2.1.dsa.*`` for what stands inside a block: the class name in lower case;
- ``cls_head.fc_cls.*`` for the classifier.

Only names change here, and the shape of a classifier that is a 1x1x1 convolution; filters are inflated when they meet
the model that they go into (``checkpoint``).
"""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

State = Mapping[str, Tensor]
Translation = Callable[[State, Set[str]], dict[str, Tensor]]

BACKBONE = 'backbone.'
HEAD = 'cls_head.'


class Normalization(NamedTuple):
    """Mean and standard deviation of R, G, B in gray levels, as ``DataPreprocessor`` takes them."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __str__(self) -> str:
        return f'mean={self.mean}, std={self.std}'


@dataclass(frozen=True)
class Layout:
    """One way to name weights.

    Attributes:
        name: what users know it as.
        recognize: tells from weights, without ``backbone.`` in front of their keys, whether they have this layout.
        translate: gives weights our keys; also told the keys of the model that they go into, if it is known, because
            some networks exist here twice. Keys that begin with neither ``backbone.`` nor ``cls_head.`` have no place
            in our models. Raises ValueError where our models are built otherwise.
        expects: mean and standard deviation of the ``data_preprocessor`` that the networks were trained with, if they
            are not our defaults.
        find_strides: reads off the temporal strides that the networks were built with, by our name of the option: no
            weight shows them, so that the weights would also fit networks with others. None where nothing tells.
        module: a class without weights that the networks hold, so that no key would be missing without it.
    """

    name: str
    recognize: Callable[[State], bool]
    translate: Translation
    expects: Normalization | None = None
    find_strides: Callable[[State], dict[str, int]] | None = None
    module: str = ''


def strip_wrappers(state: State) -> dict[str, Tensor]:
    """Return weights without what DistributedDataParallel and ``torch.compile`` put into their keys."""
    return {key.removeprefix('module.').replace('_orig_mod.', ''): value for key, value in state.items()}


def find_layout(state: State) -> Layout:
    """Return the layout of weights whose wrappers are stripped; ``UNKNOWN``, which changes no name, if need be."""
    bare = {key.removeprefix(BACKBONE): value for key, value in state.items()}
    return next((layout for layout in LAYOUTS if layout.recognize(bare)), UNKNOWN)


def rename(*patterns: tuple[str, str]) -> Translation:
    """Return a translation that applies regular expressions and their replacements to each key, in order.

    Behind that, a file of a backbone alone gets ``backbone.`` in front of its keys, but for ``fc``, which tells images
    apart and no videos.
    """

    def translate(state: State, target: Set[str]) -> dict[str, Tensor]:
        is_alone = not any(key.startswith(BACKBONE) for key in state)
        renamed: dict[str, Tensor] = {}
        for key, value in state.items():
            new = key
            for pattern, replacement in patterns:
                new = re.sub(pattern, replacement, new)
            if is_alone and not new.startswith((HEAD, 'fc.')):
                new = BACKBONE + new
            if new in renamed:
                raise ValueError(f'{key!r} is not the only key that means {new!r}')
            renamed[new] = value
        return renamed

    return translate


def refuse(reason: str) -> Translation:
    """Return a translation that says why there is none."""

    def translate(state: State, target: Set[str]) -> dict[str, Tensor]:
        raise ValueError(reason)

    return translate


def from_torchvision_video(classifier: str, as_r2plus1d: Translation | None = None) -> Translation:
    """Return the translation for a video network of torchvision.

    Args:
        classifier: its linear layer or 1x1x1 convolution.
        as_r2plus1d: the translation for our own R(2+1)D, used if the model's keys are its keys.
    """

    def translate(state: State, target: Set[str]) -> dict[str, Tensor]:
        body: dict[str, Tensor] = {}
        head: dict[str, Tensor] = {}
        for key, value in state.items():
            if key == f'{classifier}.weight':
                head['cls_head.fc_cls.weight'] = value.flatten(1)  # (K, C)
            elif key == f'{classifier}.bias':
                head['cls_head.fc_cls.bias'] = value
            else:
                body[key] = value
        if as_r2plus1d is not None and any(key.endswith('conv1.spatial.weight') for key in target):
            return as_r2plus1d(body, target) | head
        return {f'{BACKBONE}net.{key}': value for key, value in body.items()} | head

    return translate


def from_pytorchvideo(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate PyTorchVideo's ResNets: blocks of a stem, four stages and a head, and in I3D a pooling among them."""
    stages = _pytorchvideo_stages(state)
    numbers = {f'blocks.{place}.': f'layer{i + 1}.' for i, place in enumerate(stages)}
    staged = {}
    for key, value in state.items():
        prefix = '.'.join(key.split('.')[:2]) + '.'
        staged[numbers.get(prefix, prefix) + key.removeprefix(prefix)] = value
    return PYTORCHVIDEO(staged, target)


def _pytorchvideo_stages(state: State) -> list[int]:
    """Return which of the ``blocks`` are the stages."""
    return sorted({int(key.split('.')[1]) for key in state if '.res_blocks.' in key})


def find_pytorchvideo_strides(state: State) -> dict[str, int]:
    """Read off the temporal strides of ``create_resnet``: 1 in the stem, 2 in the pooling behind the first stage."""
    stages = _pytorchvideo_stages(state)
    has_pool = stages[1:2] == [stages[0] + 2]
    return {'conv1_stride_t': 1, 'pool1_stride_t': 1, 'pool2_stride_t': 2 if has_pool else 1}


PYTORCHVIDEO = rename(
    (r'^blocks\.0\.conv\.', 'conv1.'),
    (r'^blocks\.0\.norm\.', 'bn1.'),
    (r'\.res_blocks\.', '.'),
    (r'\.branch1_conv\.', '.downsample.0.'),
    (r'\.branch1_norm\.', '.downsample.1.'),
    (r'\.branch2\.conv_a\.', '.conv1.'),
    (r'\.branch2\.norm_a\.', '.bn1.'),
    (r'\.branch2\.conv_b\.', '.conv2.'),
    (r'\.branch2\.norm_b\.', '.bn2.'),
    (r'\.branch2\.conv_c\.', '.conv3.'),
    (r'\.branch2\.norm_c\.', '.bn3.'),
    (r'^blocks\.\d+\.proj\.', 'cls_head.fc_cls.'),
)
# Blocks that hold a module are wrapped in a `block`, first convolutions in a `net`, classifiers without a 3D head are
# called `new_fc`, and again `new_cls` once a whole image was tested, as the same weights in another shape.
RELEASE = rename(
    (r'(layer\d\.\d+)\.(block|net)\.', r'\1.'),
    (r'\.conv1\.shift_conv\.', '.mvf.conv_t.'),
    (r'\.conv1\.h_conv\.', '.mvf.conv_h.'),
    (r'\.conv1\.w_conv\.', '.mvf.conv_w.'),
    (r'\.conv1\.bn\.', '.mvf.bn.'),
    (r'\.conv1\.net\.', '.conv1.'),
    (r'^cls_head\.new_fc\.', 'cls_head.fc_cls.'),
)
# mmaction2 puts convolution and norm into one module, and wraps what it shifts in time.
MMACTION2 = rename(
    (r'(layer\d\.\d+)\.(block|net)\.', r'\1.'),
    (r'\.conv\.net\.', '.conv.'),
    (r'(conv\d)\.conv\.conv_s\.', r'\1.spatial.'),
    (r'(conv\d)\.conv\.bn_s\.', r'\1.norm.'),
    (r'(conv\d)\.conv\.conv_t\.', r'\1.temporal.'),
    (r'downsample\.conv\.conv_s\.', 'downsample.0.spatial.'),
    (r'downsample\.conv\.bn_s\.', 'downsample.0.norm.'),
    (r'downsample\.conv\.conv_t\.', 'downsample.0.temporal.'),
    (r'conv(\d)\.conv\.', r'conv\1.'),
    (r'conv(\d)\.bn\.', r'bn\1.'),
    (r'downsample\.conv\.', 'downsample.0.'),
    (r'downsample\.bn\.', 'downsample.1.'),
    (r'\.non_local_block\.', '.nonlocal3d.'),
    (r'\.tam\.G\.', '.tam.generate.'),
    (r'\.tam\.L\.', '.tam.gate.'),
)
TORCHVISION_R2PLUS1D = rename(
    (r'^stem\.0\.', 'conv1.spatial.'),
    (r'^stem\.1\.', 'conv1.norm.'),
    (r'^stem\.3\.', 'conv1.temporal.'),
    (r'^stem\.4\.', 'bn1.'),
    (r'\.conv(\d)\.0\.0\.', r'.conv\1.spatial.'),
    (r'\.conv(\d)\.0\.1\.', r'.conv\1.norm.'),
    (r'\.conv(\d)\.0\.3\.', r'.conv\1.temporal.'),
    (r'\.conv(\d)\.1\.', r'.bn\1.'),
)
IDENTITY = rename()


def from_release(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate the 2021 release and its sister MVFNet."""
    return RELEASE({key: value for key, value in state.items() if not key.startswith('cls_head.new_cls.')}, target)


def num_axes(state: State, key: str) -> int:
    """Return the number of axes of a weight, 0 if there is none of this name."""
    return state[key].dim() if key in state else 0


def holds(pattern: str) -> Callable[[State], bool]:
    """Return a recognizer: a key holds this regular expression."""
    compiled = re.compile(pattern)
    return lambda state: any(compiled.search(key) for key in state)


def is_mmaction2(state: State, axes: int, pattern: str = '') -> bool:
    """Tell mmaction2's ResNets with so many axes in the weights of the stem and a key that holds the pattern."""
    return num_axes(state, 'conv1.conv.weight') == axes and holds(pattern)(state)


def is_image_resnet(state: State) -> bool:
    """Tell a ResNet for images that nobody has made a recognizer of."""
    has_names = num_axes(state, 'conv1.weight') == 4 and num_axes(state, 'layer1.0.conv1.weight') == 4
    return has_names and not holds(r'^cls_head\.')(state)


def is_ours(state: State) -> bool:
    """Tell our own files, those of backbones alone among them."""
    if any(num_axes(state, key) == 5 for key in ('conv1.weight', 'conv1.spatial.weight')) or holds(r'^net\.')(state):
        return True
    # A converted file of a 2D network keeps its flat filters.
    return num_axes(state, 'conv1.weight') == 4 and holds(r'^cls_head\.')(state)


# Means and deviations in gray levels: of Kinetics, as torchvision uses them, and 0.45 and 0.225 of the range.
KINETICS = Normalization((110.2008, 100.63983, 95.99475), (58.14765, 56.46975, 55.332195))
GREY = Normalization((114.75, 114.75, 114.75), (57.375, 57.375, 57.375))

# In order: the first that recognizes a file has it, so those of few traits stand last.
LAYOUTS = (
    Layout(
        'ResNet with a deep stem',
        lambda state: num_axes(state, 'conv1.0.weight') == 4 and 'layer1.0.conv1.weight' in state,
        refuse(
            'the stem has three convolutions (conv1.0, conv1.3, conv1.6), as in the variants c, d, s and t of timm; '
            'ours has one of 7x7. Take the plain resnet18, 34, 50, 101 or 152'
        ),
    ),
    Layout(
        'ResNet with pooling in its shortcuts',
        lambda state: num_axes(state, 'layer2.0.downsample.1.weight') == 4,
        refuse(
            'its shortcuts pool before they convolve (downsample.1 is a convolution), as in the variants d and t of '
            'timm; ours do not. Take the plain resnet18, 34, 50, 101 or 152'
        ),
    ),
    Layout(
        'ResNet with squeeze and excitation',
        lambda state: num_axes(state, 'conv1.weight') == 4 and holds(r'^layer\d\.\d+\.se\.')(state),
        refuse(
            'its blocks weight their channels (layer1.0.se), as SE-ResNets do; ours do not. '
            'Take the plain resnet18, 34, 50, 101 or 152'
        ),
    ),
    Layout("mmaction2's R(2+1)D", holds(r'^conv1\.conv\.conv_s\.weight$'), MMACTION2),
    Layout("mmaction2's TANet", lambda state: is_mmaction2(state, 4, r'\.tam\.G\.'), MMACTION2),
    Layout("mmaction2's TSM", lambda state: is_mmaction2(state, 4, r'\.net\.'), MMACTION2, module='TemporalShift'),
    Layout("mmaction2's TSN", lambda state: is_mmaction2(state, 4), MMACTION2),
    Layout("mmaction2's I3D or SlowOnly", lambda state: is_mmaction2(state, 5), MMACTION2),
    Layout("MVFNet's release", holds(r'\.conv1\.shift_conv\.weight$'), from_release),
    Layout('the 2021 release', holds(r'^layer\d\.\d+\.(block|net)\.|\.conv1\.net\.|^cls_head\.new_fc\.'), from_release),
    Layout(
        "PyTorchVideo's ResNet",
        holds(r'^blocks\.\d+\.res_blocks\.0\.branch2\.conv_a\.weight$'),
        from_pytorchvideo,
        GREY,
        find_pytorchvideo_strides,
    ),
    Layout(
        "torchvision's R(2+1)D",
        lambda state: num_axes(state, 'layer1.0.conv1.0.0.weight') == 5,
        from_torchvision_video('fc', TORCHVISION_R2PLUS1D),
        KINETICS,
    ),
    Layout(
        "torchvision's R3D or MC3",
        lambda state: num_axes(state, 'layer1.0.conv1.0.weight') == 5,
        from_torchvision_video('fc'),
        KINETICS,
    ),
    Layout(
        "torchvision's S3D",
        lambda state: num_axes(state, 'features.0.1.0.weight') == 5,
        from_torchvision_video('classifier.1'),
        KINETICS,
    ),
    Layout(
        "torchvision's MViT",
        lambda state: num_axes(state, 'conv_proj.weight') == 5,
        from_torchvision_video('head.1'),
        GREY,
    ),
    Layout(
        "torchvision's Video Swin",
        lambda state: num_axes(state, 'patch_embed.proj.weight') == 5 and 'features.0.0.norm1.weight' in state,
        from_torchvision_video('head'),
    ),
    Layout("torchvision's or timm's image ResNet", is_image_resnet, IDENTITY),
    Layout('ours', is_ours, IDENTITY),
)
UNKNOWN = Layout('unknown', lambda state: True, IDENTITY)
