"""Checkpoints that survive a power cut, and weights from elsewhere.

A checkpoint holds tensors and plain Python types only, so it loads with ``weights_only=True`` and can run no code.
Whose weights a file holds is told by its keys (``layouts``).
"""

import errno
import logging
import re
import zipfile
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from codes.atomic_files import replacing
from codes.engine.layouts import BACKBONE, HEAD, Layout, find_layout, strip_wrappers
from codes.registry import MODELS

LOGGER = logging.getLogger(__name__)

RUN_FILE = re.compile(r'epoch_(\d+)(?:_iter_(\d+))?\.pth')

# The system or the disk is at fault, not what is in the file.
_NOT_THE_FILES_FAULT = {
    getattr(errno, name) for name in ('EACCES', 'EPERM', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM', 'ESTALE')
}

# The flag of the tools that lets a file run code while it is read.
ALLOW_PICKLE = '--allow-pickle'


class Position(NamedTuple):
    """Where a run stands: finished epochs, and iterations done in the one behind them."""

    epoch: int
    iteration: int = 0

    @property
    def file_name(self) -> str:
        """Name of the checkpoint of this place, ``epoch_3.pth`` or ``epoch_3_iter_40.pth``."""
        within = f'_iter_{self.iteration}' if self.iteration else ''
        return f'epoch_{self.epoch}{within}.pth'


def position_of(content: Mapping[str, Any]) -> Position:
    """Return where the run of a checkpoint stood; at its very beginning if it holds no run."""
    return Position(content.get('epoch', 0), content.get('iteration', 0))


def save_atomically(content: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint so that ``file`` is at any moment either the old one or the new one, complete.

    Args:
        content: tensors and plain types.
        file: where to; its folder exists.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    with replacing(file) as stream:
        _write(content, stream)


class _Stream:
    """A file for torch.save, which hides why its file could not be written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def _write(content: Mapping[str, Any], stream: BinaryIO) -> None:
    watched = _Stream(stream)
    try:
        torch.save(dict(content), watched)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise watched.error or error from error


def read_checkpoint(file: str | Path, allow_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running code from it unless that is needed and allowed.

    Args:
        file: the checkpoint.
        allow_pickle: let a file run code that cannot be read otherwise, as old ones that hold more than tensors and
            plain types; said in a warning. For files whose origin is trusted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no checkpoint, or needs code to be read.
        OSError, MemoryError: it cannot be read now, whatever is in it.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f'there is no checkpoint {file.absolute()}')
    try:
        _compare_checksums(file)
        content = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly anything
        if isinstance(error, MemoryError) or getattr(error, 'errno', None) in _NOT_THE_FILES_FAULT:
            raise
        foreign = re.search(r'GLOBAL ([\w.]+)', str(error))
        if foreign is None or not allow_pickle:
            text = f'{file} cannot be read as a checkpoint of tensors and plain types: {_why(file, error, foreign)}'
            raise ValueError(text) from error
        content = _read_with_code(file, foreign[1])
    if not isinstance(content, dict):
        raise ValueError(f'{file} holds a {type(content).__name__}, not a checkpoint')
    return content


def _compare_checksums(file: Path) -> None:
    """Compare what is in a file with its checksums, which torch writes and does not look at when it reads.

    Raises:
        ValueError, zipfile.BadZipFile: a bit is not as it was.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f'{damaged} in it is damaged')


def _why(file: Path, error: Exception, foreign: re.Match[str] | None) -> str:
    """Say in one line why a file was refused, and what helps if it only needs code."""
    if foreign is not None:
        return (
            f'it holds {foreign[1]}, and reading that runs code from the file. Only if you trust whom it is from: '
            f'`python tools/convert_checkpoint.py {file} NEW.pth {ALLOW_PICKLE}` makes a plain file of it'
        )
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read_with_code(file: Path, foreign: str) -> Any:
    LOGGER.warning('%s holds %s; because of %s it is read all the same, and its code runs', file, foreign, ALLOW_PICKLE)
    try:
        return torch.load(file, map_location='cpu', weights_only=False)
    except Exception as error:  # whatever that code raises, such as for want of a module
        raise ValueError(f'{file} cannot be read even with {ALLOW_PICKLE}: {error!r}') from error


def run_files(work_dir: Path) -> list[tuple[Position, Path]]:
    """Return the checkpoints of a work dir and where the run stood, the furthest first."""
    found = [(match, file) for file in work_dir.glob('epoch_*.pth') if (match := RUN_FILE.fullmatch(file.name))]
    return sorted(((Position(int(m[1]), int(m[2] or 0)), file) for m, file in found), reverse=True)


def newest_checkpoint(work_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the furthest checkpoint of a work dir that can be read, with its content; None if there is none.

    Damaged files are passed over with a warning.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    files = run_files(work_dir)
    for _, file in files:
        try:
            return file, read_checkpoint(file)
        except ValueError as error:
            LOGGER.warning('passed over: %s', error)
    if files:
        raise ValueError(f'none of the {len(files)} checkpoints in {work_dir} can be read')
    return None


def describe_difference(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Say in words how two state dicts differ: keys that are missing, keys that are unexpected, other shapes."""
    shapes = [
        f'{key} has shape {tuple(source[key].shape)} instead of {tuple(target[key].shape)}'
        for key in target
        if key in source and source[key].shape != target[key].shape
    ]
    missing, unexpected = ([k for k in one if k not in other] for one, other in ((target, source), (source, target)))
    parts = [
        f'{len(keys)} keys {what} ({_few(keys)})'
        for what, keys in (('missing', missing), ('unexpected', unexpected))
        if keys
    ]
    return '; '.join([*parts, _few(shapes)] if shapes else parts)


def _few(texts: list[str]) -> str:
    return ', '.join(texts[:4]) + (', ...' if len(texts) > 4 else '')


def find_state_dict(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """Find the weights in a checkpoint: under ``state_dict``, ``model`` or ``model_state``, or the whole of it.

    Averaged weights (``ema_state_dict``) go before ``state_dict``: they are what such a run was validated with.
    mmengine uses that name for the weights that are *not* averaged; there the keys are others, and it is passed over.

    Returns:
        The weights, and whether they are averaged ones.

    Raises:
        ValueError: there are none.
    """
    is_average = False
    for key in ('state_dict', 'model', 'model_state'):
        if isinstance(content.get(key), Mapping):
            plain, average = content[key], content.get('ema_state_dict')
            is_average = isinstance(average, Mapping) and plain.keys() <= average.keys()
            content = average if isinstance(average, Mapping) and is_average else plain
            break
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise ValueError(f'no weights among the keys {", ".join(map(repr, list(content)[:5]))}')
    return state, is_average


@dataclass(frozen=True)
class Weights:
    """The weights of a file, under our keys.

    Attributes:
        state: keys of a recogniser, ``backbone.*`` and ``cls_head.*``; others have no place in our models.
        layout: the layout that they were found in.
        is_average: whether they are averaged ones (EMA).
        class_names: names by class number, if the file has any.
        strides: temporal strides of the network that they come from, by our option; empty if they cannot be told.
    """

    state: dict[str, Tensor]
    layout: Layout
    is_average: bool
    class_names: list[str] | None
    strides: Mapping[str, int] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Layout, kind and what the network expects, in words."""
        average = ', averaged weights (EMA)' if self.is_average else ''
        expects = f'; trained with data_preprocessor {self.layout.expects}' if self.layout.expects else ''
        return f'layout: {self.layout.name}{average}{expects}'


def read_weights(file: str | Path, target: Set[str] = frozenset(), allow_pickle: bool = False) -> Weights:
    """Read the weights of a file of any layout that we know.

    Args:
        file: a checkpoint.
        target: keys of the model that they are for, which decide where a network exists here twice.
        allow_pickle: as for :func:`read_checkpoint`.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`; there are no weights, or those of a network that we
            do not build.
    """
    content = read_checkpoint(file, allow_pickle)
    try:
        found, is_average = find_state_dict(content)
        found = strip_wrappers(found)
        layout = find_layout(found)
        state = layout.translate(found, target)
        strides = layout.find_strides(found) if layout.find_strides is not None else {}
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    names = content.get('class_names')
    has_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Weights(state, layout, is_average, names if has_names else None, strides)


def inflate(weight: Tensor, length: int) -> Tensor:
    """Make a 3D filter from a 2D one: repeat in time, divide by the length (arXiv 1705.07750, section 2.1).

    Args:
        weight: (out, in, height, width).
        length: kernel length in frames.

    Returns:
        (out, in, length, height, width); on a clip of equal frames it answers as the 2D filter does.
    """
    return weight.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


@dataclass
class LoadReport:
    """What loading weights did, as lists of keys."""

    matched: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f'{len(self.matched)} matched ({len(self.inflated)} of them inflated from 2D)']
        for name in ('missing', 'unexpected', 'reinitialised'):
            keys = getattr(self, name)
            parts.append(f'{len(keys)} {name}' + (f' ({_few(keys)})' if keys else ''))
        return ', '.join(parts)


def fit(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], LoadReport]:
    """Find the weights that fit a model, inflating flat filters.

    Args:
        source: weights under the keys of a recogniser.
        target: the state dict of a recogniser or of a backbone.

    Returns:
        What goes into the model, and a report.

    Raises:
        ValueError: a weight outside of the classifier has another shape, nothing of the backbone fits, or its first
            filter is not there: then it is another network, whatever else has the same name.
    """
    if not any(key.startswith(BACKBONE) for key in target):
        source = {key.removeprefix(BACKBONE): value for key, value in source.items()}
    report = LoadReport(unexpected=[key for key in source if key not in target])
    loaded = {}
    # A classifier of another size is the usual case of fine-tuning; any other difference in shape is a mistake. A bias
    # that would fit starts fresh with its weight.
    fresh = {
        key.rpartition('.')[0]
        for key, value in source.items()
        if key.startswith(HEAD) and key in target and value.shape != target[key].shape
    }
    for key, current in target.items():
        if key not in source:
            # Files from before PyTorch 0.4.1 do not count batches; only the average without momentum reads it.
            if not key.endswith('num_batches_tracked'):
                report.missing.append(key)
            continue
        if key.rpartition('.')[0] in fresh:
            report.reinitialised.append(key)
            continue
        value = source[key]
        if value.dim() == 4 and current.dim() == 5:
            value = inflate(value, current.shape[2])
            report.inflated.append(key)
        if value.shape != current.shape:
            raise ValueError(f'{key} has shape {tuple(value.shape)}, the model needs {tuple(current.shape)}')
        loaded[key] = value
        report.matched.append(key)
    if all(key.startswith(HEAD) for key in report.matched):
        what = 'only the classifier' if report.matched else f'none of its {len(source)} weights'
        shown = [[key for key in keys if not key.startswith(HEAD)][:3] for keys in (source, target)]
        raise ValueError(
            f'{what} fits the model; it has {", ".join(shown[0])}, ..., the model has {", ".join(shown[1])}, ...'
        )
    first = next((key for key, value in target.items() if value.dim() >= 4 and not key.startswith(HEAD)), None)
    if first in report.missing:
        raise ValueError(f'{len(report.matched)} weights fit, but not the first filter, {first}: it is another network')
    return loaded, report


def load_weights(model: nn.Module, file: str | Path, strict: bool = False, allow_pickle: bool = False) -> LoadReport:
    """Load weights of any layout that ``layouts`` lists into a model.

    Args:
        model: a recogniser or a backbone; a recogniser also takes a file that holds a backbone alone.
        file: a checkpoint; averaged weights in it go before the others.
        strict: refuse missing, unexpected and reinitialised weights: for testing, where every weight counts.
        allow_pickle: as for :func:`read_checkpoint`.

    Returns:
        What happened, which is also logged in one line.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_weights`; no weight of the backbone matched; a weight has another
            shape (but for the classifier, which keeps its fresh values and is reported); with ``strict``, any
            difference.
    """
    target = model.state_dict()
    weights = read_weights(file, target.keys(), allow_pickle)
    try:
        loaded, report = fit(weights.state, target)
    except ValueError as error:
        raise ValueError(f'{file}: {error} ({weights.origin})') from error
    if strict and (report.missing or report.unexpected or report.reinitialised):
        sizes = ''.join(
            f'; {key} is {tuple(weights.state[key].shape)} there, {tuple(target[key].shape)} in the model'
            for key in report.reinitialised[:1]
        )
        hint = ': is num_classes of the config the one it was trained with?' if sizes else ''
        raise ValueError(f'{file} does not fit the model: {report}{sizes}{hint} ({weights.origin})')
    model.load_state_dict(loaded, strict=False)
    LOGGER.info('weights from %s: %s (%s)', file, report, weights.origin)
    random = [key for key in report.missing if not key.startswith(HEAD) and not _is_of_inserted_module(key)]
    if random:
        LOGGER.warning('%d weights of the network itself keep their random start, %s first', len(random), random[0])
    module = weights.layout.module
    if module and not any(type(part).__name__ == module for part in model.modules()):
        LOGGER.warning('the network of %s has a %s, this one has none', file, module)
    for text in find_misfits(model, weights):
        LOGGER.warning('%s: %s', file, text)
    return report


def find_misfits(model: nn.Module, weights: Weights) -> list[str]:
    """Say where a model treats its input otherwise than the network that weights of another layout come from.

    No shape of a weight shows it: such a model loads without a word, and answers badly.

    Args:
        model: a recogniser or a backbone; only the former can tell its normalisation.
        weights: from :func:`read_weights`.
    """
    texts = []
    expected, preprocessor = weights.layout.expects, getattr(model, 'data_preprocessor', None)
    if expected is not None and preprocessor is not None:
        has = torch.stack([preprocessor.mean.cpu(), 1 / preprocessor.scale.cpu()])
        if not torch.allclose(has, torch.tensor(expected), atol=0.1):
            mean, std = (tuple(round(v, 3) for v in row) for row in has.tolist())
            texts.append(f'trained with data_preprocessor {expected}, this model has {mean=}, {std=}')
    backbone = getattr(model, 'backbone', model)
    options = {'conv1_stride_t': 'conv1', 'pool1_stride_t': 'maxpool', 'pool2_stride_t': 'pool2'}
    for option, wanted in weights.strides.items():
        stride = getattr(getattr(backbone, options[option], None), 'stride', (1, 1, 1))
        if len(stride) == 3 and stride[0] != wanted:
            texts.append(f'its network has backbone.{option}={wanted}, this one {stride[0]}')
    return texts


def _is_of_inserted_module(key: str) -> bool:
    """Say whether a weight belongs to a module that ``block_maker`` put in: it is called after its class."""
    modules = {name.lower() for name in MODELS.module_dict}
    return any(re.sub(r'_(\d+|after_\w+)$', '', part) in modules for part in key.split('.'))
