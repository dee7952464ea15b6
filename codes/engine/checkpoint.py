"""Checkpoints that survive a power cut, and weights from elsewhere.

A checkpoint holds tensors and plain Python types only, so it loads with ``weights_only=True`` and can run no code.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LOGGER = logging.getLogger(__name__)

EPOCH_FILE = re.compile(r'epoch_(\d+)\.pth')

# A classifier of another size is the usual case of fine-tuning; any other difference in shape is a mistake.
CLASSIFIER = re.compile(r'(^|\.)(fc|fc_cls)\.(weight|bias)$')


def save_atomically(content: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint so that ``file`` is at any moment either the old one or the new one, complete.

    Args:
        content: tensors and plain types.
        file: where to; its folder exists.
    """
    part = file.with_name(f'{file.name}.part')
    with part.open('wb') as stream:
        torch.save(dict(content), stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running code from it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no checkpoint, or needs code to be read.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f'there is no checkpoint {file.absolute()}')
    try:
        content = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f'{file} cannot be read as a checkpoint of tensors and plain types: {reason}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} holds a {type(content).__name__}, not a checkpoint')
    return content


def epoch_files(work_dir: Path) -> list[Path]:
    """Return the checkpoints of a work dir, newest epoch first."""
    found = [(int(match[1]), f) for f in work_dir.glob('epoch_*.pth') if (match := EPOCH_FILE.fullmatch(f.name))]
    return [file for _, file in sorted(found, reverse=True)]


def newest_checkpoint(work_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint of a work dir that can be read, with its content; None if there is none.

    Damaged files are passed over with a warning.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    files = epoch_files(work_dir)
    for file in files:
        try:
            return file, read_checkpoint(file)
        except ValueError as error:
            LOGGER.warning('passed over: %s', error)
    if files:
        raise ValueError(f'none of the {len(files)} checkpoints in {work_dir} can be read')
    return None


def find_state_dict(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights in a checkpoint: under ``state_dict`` or ``model``, or the whole of it.

    Raises:
        ValueError: there are none.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise ValueError(f'no weights among the keys {", ".join(map(repr, list(content)[:5]))}')
    return state


def translate_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the keys that we use.

    DistributedDataParallel's ``module.`` goes, and so does the ``.block.`` of the 2021 release, which wrapped each
    block that has DSA: ``backbone.layer2.1.block.conv1.weight`` becomes ``backbone.layer2.1.conv1.weight``.
    """
    translated = {}
    for key, value in state.items():
        key = key.removeprefix('module.')
        translated[re.sub(r'(layer\d+\.\d+)\.block\.', r'\1.', key)] = value
    return translated


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
            shown = ', '.join(keys[:4]) + (', ...' if len(keys) > 4 else '')
            parts.append(f'{len(keys)} {name}' + (f' ({shown})' if keys else ''))
        return ', '.join(parts)


def load_weights(model: nn.Module, file: str | Path, strict: bool = False) -> LoadReport:
    """Load weights of our layout, the 2021 release's or torchvision's image ResNets into a model.

    Args:
        model: a recogniser or a backbone; a recogniser also takes a file that holds a backbone alone.
        file: a checkpoint.
        strict: refuse missing, unexpected and reinitialised weights: for testing, where every weight counts.

    Returns:
        What happened, which is also logged in one line.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`; no weight matched; a weight has another shape (but
            for the classifier, which keeps its fresh values and is reported); with ``strict``, any difference.
    """
    content = read_checkpoint(file)
    try:
        source = translate_keys(find_state_dict(content))
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    target = model.state_dict()
    # A backbone's file for a recogniser, or a recogniser's for a backbone.
    prefix = 'backbone.'
    has_prefix, wants_prefix = (any(key.startswith(prefix) for key in keys) for keys in (source, target))
    if wants_prefix and not has_prefix:
        source = {prefix + key: value for key, value in source.items()}
    elif has_prefix and not wants_prefix:
        source = {key.removeprefix(prefix): value for key, value in source.items()}
    report = LoadReport(unexpected=[key for key in source if key not in target])
    loaded = {}
    for key, current in target.items():
        if key not in source:
            # Files from before PyTorch 0.4.1 do not count batches; only the average without momentum reads it.
            if not key.endswith('num_batches_tracked'):
                report.missing.append(key)
            continue
        value = source[key]
        if value.dim() == 4 and current.dim() == 5:
            value = inflate(value, current.shape[2])
            report.inflated.append(key)
        if value.shape == current.shape:
            loaded[key] = value
            report.matched.append(key)
        elif CLASSIFIER.search(key):
            report.reinitialised.append(key)
        else:
            raise ValueError(f'{file}: {key} has shape {tuple(value.shape)}, the model needs {tuple(current.shape)}')
    if not report.matched:
        raise ValueError(
            f'{file}: none of its {len(source)} weights fits the model; it has {", ".join(list(source)[:3])}, ..., '
            f'the model has {", ".join(list(target)[:3])}, ...'
        )
    if strict and (report.missing or report.unexpected or report.reinitialised):
        raise ValueError(f'{file} does not fit the model: {report}')
    model.load_state_dict(loaded, strict=False)
    LOGGER.info('weights from %s: %s', file, report)
    return report
