"""Layouts of checkpoints: the names that other projects use for the weights of our networks.

Each entry of ``LAYOUTS`` recognizes a layout by its keys and translates them to ours:

- ``backbone.conv1``, ``bn1``, ``layer1.0.conv1``, ``layer1.0.bn1``, ``layer2.0.downsample.0``: torchvision's names;
- ``backbone.conv1.spatial``, ``.norm`` and ``.temporal`` for the two convolutions of R(2+1)D;
- ``backbone.net.*`` for networks of torchvision;
- ``backbone.layer2.1.dsa.*`` for a module inside a block: its class name in lower case;
- ``cls_head.fc_cls.*`` for the classifier.

Only keys are changed here, and the shape of a classifier that is a 1x1x1 convolution; ``loading`` inflates 2D filters.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from dsanet.models.weights import convolutional
from dsanet.models.weights import vision_transformers as vit
from dsanet.models.weights.renaming import BACKBONE, State, Translation, has_key, ndim, rename
from dsanet.models.weights.timm_layout import from_timm, is_for_timm_frames


class Normalization(NamedTuple):
    """Mean and standard deviation of R, G, B in [0, 255], the arguments of ``DataPreprocessor``."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __str__(self) -> str:
        return f'mean={self.mean}, std={self.std}'


@dataclass(frozen=True)
class Layout:
    """A naming scheme for weights.

    Attributes:
        name: for messages.
        recognize: returns whether weights have this layout; their keys have no ``backbone.`` prefix.
        translate: renames weights to our keys. Its second argument is the set of keys of the model to load into, if
            known, as some networks have two implementations. Keys without the prefix ``backbone.`` or ``cls_head.`` are
            not used by our models. Raises ValueError for a network that is not supported.
        expects: normalization that the networks were trained with, if it differs from our default.
        find_strides: infers the temporal strides of the networks, by name of our option. Weights of networks with
            other strides have the same shapes. None if the strides cannot be inferred.
        module: class name of a module without weights in the networks. If it is absent, no key is missing.
        options: options of our backbone that the networks were trained with and that change no shape.
    """

    name: str
    recognize: Callable[[State], bool]
    translate: Translation
    expects: Normalization | None = None
    find_strides: Callable[[State], dict[str, int]] | None = None
    module: str = ''
    options: Mapping[str, Any] = field(default_factory=dict)


def find_layout(state: State, target: Set[str] = frozenset()) -> Layout:
    """Return the layout of weights without wrapper prefixes; ``UNKNOWN``, which keeps all keys, if none matches.

    Args:
        state: the weights.
        target: keys of the model to load into, if known: timm's networks are recognized by them.
    """
    bare = {key.removeprefix(BACKBONE): value for key, value in state.items()}
    if is_for_timm_frames(bare, target):
        return TIMM
    return next((layout for layout in LAYOUTS if layout.recognize(bare)), UNKNOWN)


def unsupported(reason: str) -> Translation:
    """Return a translation that raises an error."""

    def translate(state: State, target: Set[str]) -> dict[str, Tensor]:
        raise ValueError(reason)

    return translate


def from_torchvision_video(classifier: str, as_r2plus1d: Translation | None = None) -> Translation:
    """Return the translation for a video network of torchvision.

    Args:
        classifier: name of its linear layer or 1x1x1 convolution.
        as_r2plus1d: translation for our own R(2+1)D, used if the model is one.
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
    """Translate PyTorchVideo's ResNets: a stem, four stages and a head; in I3D also a pooling block."""
    stages = _pytorchvideo_stages(state)
    numbers = {f'blocks.{place}.': f'layer{i + 1}.' for i, place in enumerate(stages)}
    staged = {}
    for key, value in state.items():
        prefix = '.'.join(key.split('.')[:2]) + '.'
        staged[numbers.get(prefix, prefix) + key.removeprefix(prefix)] = value
    return PYTORCHVIDEO(staged, target)


def _pytorchvideo_stages(state: State) -> list[int]:
    """Return the numbers of the ``blocks`` that are stages."""
    return sorted({int(key.split('.')[1]) for key in state if '.res_blocks.' in key})


def find_pytorchvideo_strides(state: State) -> dict[str, int]:
    """Infer the temporal strides of ``create_resnet``: 1 in the stem, 2 in the pooling after the first stage."""
    stages = _pytorchvideo_stages(state)
    has_pool = stages[1:2] == [stages[0] + 2]
    return {'conv1_stride_t': 1, 'pool1_stride_t': 1, 'pool2_stride_t': 2 if has_pool else 1}


PYTORCHVIDEO = rename(
    (r'^blocks\.0\.conv\.', 'conv1.'),
    (r'^blocks\.0\.norm\.', 'bn1.'),
    *convolutional.PYTORCHVIDEO_BLOCK,
)
# Blocks with a module are wrapped in `block`, first convolutions in `net`, and classifiers without a 3D head are called
# `new_fc`. `new_cls` is a copy of the classifier in another shape, for tests with whole images.
RELEASE = rename(
    (r'(layer\d\.\d+)\.(block|net)\.', r'\1.'),
    (r'\.conv1\.shift_conv\.', '.mvf.conv_t.'),
    (r'\.conv1\.h_conv\.', '.mvf.conv_h.'),
    (r'\.conv1\.w_conv\.', '.mvf.conv_w.'),
    (r'\.conv1\.bn\.', '.mvf.bn.'),
    (r'\.conv1\.net\.', '.conv1.'),
    (r'^cls_head\.new_fc\.', 'cls_head.fc_cls.'),
)
# mmaction2 has one module for convolution and norm, and wraps modules with a temporal shift.
MMACTION2 = rename(
    (r'(layer\d\.\d+)\.(block|net)\.', r'\1.'),
    (r'\.conv\.net\.', '.conv.'),
    (r'(conv\d)\.conv\.conv_s\.', r'\1.spatial.'),
    (r'(conv\d)\.conv\.bn_s\.', r'\1.norm.'),
    (r'(conv\d)\.conv\.conv_t\.', r'\1.temporal.'),
    (r'downsample\.conv\.conv_s\.', 'downsample.0.spatial.'),
    (r'downsample\.conv\.bn_s\.', 'downsample.0.norm.'),
    (r'downsample\.conv\.conv_t\.', 'downsample.0.temporal.'),
    *convolutional.MMACTION2_BLOCK,
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
    """Translate the 2021 release and MVFNet's release."""
    return RELEASE({key: value for key, value in state.items() if not key.startswith('cls_head.new_cls.')}, target)


def is_mmaction2(state: State, dims: int, pattern: str = '') -> bool:
    """Recognize mmaction2's ResNets by the dimensions of the stem's weight and a pattern that a key matches."""
    return ndim(state, 'conv1.conv.weight') == dims and has_key(pattern)(state)


def is_image_resnet(state: State) -> bool:
    """Recognize an image ResNet without the head of a recognizer."""
    has_names = ndim(state, 'conv1.weight') == 4 and ndim(state, 'layer1.0.conv1.weight') == 4
    return has_names and not has_key(r'^cls_head\.')(state)


STEMS = ('conv1.weight', 'conv1.spatial.weight', 'slow_path.conv1.weight', 'conv1_s.weight', 'patch_embed.weight')


def is_ours(state: State) -> bool:
    """Recognize our own files, with or without a head."""
    if any(ndim(state, key) == 5 for key in STEMS) or has_key(r'^net\.')(state):
        return True
    # A converted file of a 2D network still has 2D filters.
    return ndim(state, 'conv1.weight') == 4 and has_key(r'^cls_head\.')(state)


def is_resnet_variant(state: State) -> bool:
    """Recognize ResNets of timm with a deep stem, pooling in the shortcuts, or squeeze and excitation."""
    has_deep_stem = ndim(state, 'conv1.0.weight') == 4 and 'layer1.0.conv1.weight' in state
    has_pooling = ndim(state, 'layer2.0.downsample.1.weight') == 4
    is_image_network = ndim(state, 'layer1.0.conv1.weight') == 4  # X3D also has squeeze and excitation
    return has_deep_stem or has_pooling or (is_image_network and has_key(r'^layer\d\.\d+\.se\.')(state))


# Mean and standard deviation of Kinetics as in torchvision; and 0.45 and 0.225 times 255.
KINETICS = Normalization((110.2008, 100.63983, 95.99475), (58.14765, 56.46975, 55.332195))
GRAY = Normalization((114.75, 114.75, 114.75), (57.375, 57.375, 57.375))

OF_AUTHORS = {'slow_sampling': 'linspace', 'lateral_norm': True}
OF_MMACTION2 = {'slow_sampling': 'stride', 'lateral_norm': False}
CONVOLUTIONAL = (
    Layout(
        "PyTorchVideo's SlowFast",
        has_key(r'^blocks\.0\.multipathway_blocks\.1\.conv\.weight$'),
        convolutional.from_pytorchvideo_slowfast,
        GRAY,
        options=OF_AUTHORS,
    ),
    Layout(
        "PyTorchVideo's X3D",
        has_key(r'^blocks\.0\.conv\.conv_xy\.weight$'),
        convolutional.from_pytorchvideo_x3d,
        GRAY,
    ),
    Layout(
        "PySlowFast's SlowFast",
        has_key(r'^s1\.pathway1_stem\.conv\.weight$'),
        convolutional.from_pyslowfast_slowfast,
        GRAY,
        options=OF_AUTHORS,
    ),
    Layout("PySlowFast's X3D", has_key(r'^s1\.pathway0_stem\.conv_xy\.'), convolutional.from_pyslowfast_x3d, GRAY),
    Layout(
        "PySlowFast's ResNet",
        has_key(r'^s1\.pathway0_stem\.conv\.weight$'),
        convolutional.from_pyslowfast_resnet,
        GRAY,
        convolutional.find_pyslowfast_strides,
    ),
    Layout(
        "mmaction2's SlowFast",
        has_key(r'^slow_path\.conv1_lateral\.conv\.'),
        convolutional.from_mmaction2_slowfast,
        options=OF_MMACTION2,
    ),
    Layout("mmaction2's X3D", has_key(r'^conv1_s\.conv\.'), convolutional.from_mmaction2_x3d, GRAY),
    Layout("mmaction2's CSN", has_key(r'^layer1\.0\.conv2\.0\.conv\.'), convolutional.from_mmaction2_csn),
    Layout("mmaction2's TRN", has_key(r'^cls_head\.consensus\.'), convolutional.from_mmaction2_trn),
)

# The first layout that matches is used, so the less specific ones come last.
LAYOUTS = (
    Layout(
        "timm's ResNet variants",
        is_resnet_variant,
        unsupported(
            'ResNets with a deep stem, pooling in the shortcuts or squeeze and excitation (variants c, d, s, t and '
            'seresnet of timm) are not supported; use resnet18, 34, 50, 101 or 152'
        ),
    ),
    *CONVOLUTIONAL,
    Layout("mmaction2's R(2+1)D", has_key(r'^conv1\.conv\.conv_s\.weight$'), MMACTION2),
    Layout("mmaction2's TANet", lambda state: is_mmaction2(state, 4, r'\.tam\.G\.'), MMACTION2),
    Layout("mmaction2's TSM", lambda state: is_mmaction2(state, 4, r'\.net\.'), MMACTION2, module='TemporalShift'),
    Layout("mmaction2's TSN", lambda state: is_mmaction2(state, 4), MMACTION2),
    Layout("mmaction2's I3D or SlowOnly", lambda state: is_mmaction2(state, 5), MMACTION2),
    Layout("MVFNet's release", has_key(r'^layer\d.*\.conv1\.shift_conv\.weight$'), from_release),
    Layout(
        'the 2021 release',
        has_key(r'^layer\d(\.\d+\.(block|net)\.|.*\.conv1\.net\.)|^cls_head\.new_fc\.'),
        from_release,
    ),
    Layout(
        "PyTorchVideo's ResNet",
        has_key(r'^blocks\.\d+\.res_blocks\.0\.branch2\.conv_a\.weight$'),
        from_pytorchvideo,
        GRAY,
        find_pytorchvideo_strides,
    ),
    Layout(
        "torchvision's R(2+1)D",
        lambda state: ndim(state, 'layer1.0.conv1.0.0.weight') == 5,
        from_torchvision_video('fc', TORCHVISION_R2PLUS1D),
        KINETICS,
    ),
    Layout(
        "torchvision's R3D or MC3",
        lambda state: ndim(state, 'layer1.0.conv1.0.weight') == 5,
        from_torchvision_video('fc'),
        KINETICS,
    ),
    Layout(
        "torchvision's S3D",
        lambda state: ndim(state, 'features.0.1.0.weight') == 5,
        from_torchvision_video('classifier.1'),
        KINETICS,
    ),
    Layout(
        "torchvision's MViT",
        lambda state: ndim(state, 'conv_proj.weight') == 5,
        from_torchvision_video('head.1'),
        GRAY,
    ),
    Layout(
        "torchvision's Video Swin",
        lambda state: ndim(state, 'patch_embed.proj.weight') == 5 and 'features.0.0.norm1.weight' in state,
        from_torchvision_video('head'),
    ),
    Layout('VideoMAE', vit.is_videomae, vit.from_original),
    Layout('V-JEPA 2', vit.is_vjepa2, vit.from_original),
    Layout('VideoMAE in transformers', vit.is_transformers_videomae, vit.from_transformers),
    Layout('V-JEPA 2 in transformers', vit.is_transformers_vjepa2, vit.from_transformers),
    Layout("torchvision's or timm's image ResNet", is_image_resnet, IDENTITY),
    Layout('DSANet', is_ours, IDENTITY),
)
TIMM = Layout("timm's image network", lambda state: False, from_timm)  # recognized by the keys of the model
UNKNOWN = Layout('unknown', lambda state: True, IDENTITY)
