"""What a trained run does inside, for its report: generated kernels, and activation maps of mistakes.

Both are computed from the best checkpoint and a few videos. A report has to be possible without them, so each failure
becomes a sentence.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dsanet.engine.checkpointing import list_checkpoints
from dsanet.evaluation.results import Results, confident_mistakes
from dsanet.explain.cam import ActivationMaps, explain_samples
from dsanet.explain.data import build_test_loader, read_labeled_batches
from dsanet.explain.kernels import Kernels, collect_kernels, has_dsa
from dsanet.inference.recognizer import Recognizer, load_recognizer
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import find_sources
from dsanet.utils.text import printable

MAX_VIDEOS = 32  # of the kernels
MAX_MISTAKES = 4  # with maps

# Errors of files, data, configs and devices, such as memory that is too small.
_ERRORS = (KeyError, OSError, RuntimeError, TypeError, ValueError)
_logger = logging.getLogger(__name__)
_T = TypeVar('_T')


@dataclass(frozen=True)
class MistakeMaps:
    """The maps of a wrongly classified video.

    Args:
        predicted: of the class that was predicted in the test.
        label: of the right class.
    """

    predicted: ActivationMaps
    label: ActivationMaps


@dataclass(frozen=True)
class Internals:
    """Kernels and maps of a run.

    Args:
        checkpoint: name of the file they are computed from; None if there is none.
        kernels: of a few test videos; None if there are none.
        why_no_kernels: the reason, a sentence.
        mistakes: maps of the most confident mistakes.
        why_no_maps: why there are no maps, or fewer than mistakes; a sentence, or empty.
    """

    checkpoint: str | None = None
    kernels: Kernels | None = None
    why_no_kernels: str = ''
    mistakes: Sequence[MistakeMaps] = field(default=())
    why_no_maps: str = ''


def look_inside(
    work_dir: Path, results: Results | None, names: Sequence[str], is_last_epoch: bool = False
) -> Internals:
    """Compute kernels of at most ``MAX_VIDEOS`` test videos and maps of at most ``MAX_MISTAKES`` mistakes of a run.

    Args:
        work_dir: its folder; ``best.pth`` is used, or else the checkpoint of the last epoch. Its config names the test
            videos, relative to the current folder.
        results: its test results, if there are any.
        names: of the classes in the results.
        is_last_epoch: use the checkpoint of the last epoch, even if there is ``best.pth``.
    """
    file = _find_checkpoint(work_dir, is_last_epoch)
    if file is None:
        reason = f'{work_dir} has neither best.pth nor a checkpoint of an epoch.'
        return Internals(None, None, reason, (), reason)
    recognizer, reason = _attempt(lambda: load_recognizer(file, views='fast'), file.name)
    if recognizer is None:
        return Internals(file.name, None, reason, (), reason)
    _logger.info('%s: computing kernels and activation maps with %s', work_dir, file.name)
    kernels, why_no_kernels = None, 'The model has no DSA, so it generates no kernels.'
    if has_dsa(recognizer.model):
        kernels, why_no_kernels = _attempt(lambda: _collect(recognizer), 'Kernels')
    mistakes, why_no_maps = _explain_mistakes(recognizer, results, names)
    return Internals(file.name, kernels, why_no_kernels, mistakes, why_no_maps)


def _find_checkpoint(work_dir: Path, is_last_epoch: bool) -> Path | None:
    best = work_dir / 'best.pth'
    if best.is_file() and not is_last_epoch:
        return best
    return next((file for _, file in list_checkpoints(work_dir)), None)


def _attempt(action: Callable[[], _T], what: str) -> tuple[_T | None, str]:
    """Return the result of an action, or None and why it failed as a sentence."""
    try:
        return action(), ''
    except _ERRORS as error:
        reason = str(error.args[0] if isinstance(error, KeyError) and error.args else error).splitlines() or ['']
        text = f'{what} cannot be computed: {printable(reason[0]) or type(error).__name__}'
        _logger.warning('%s', text)
        return None, text if text.endswith('.') else f'{text}.'


def _collect(recognizer: Recognizer) -> Kernels:
    return collect_kernels(recognizer, read_labeled_batches(build_test_loader(recognizer, MAX_VIDEOS)))


def _explain_mistakes(
    recognizer: Recognizer, results: Results | None, names: Sequence[str]
) -> tuple[list[MistakeMaps], str]:
    """Return the maps of the most confident mistakes, and why there are fewer than mistakes."""
    if results is None:
        return [], 'There are no test results, which name the mistakes.'
    if results.is_multi_hot:
        return [], 'Videos have several labels; mistakes require one label per video.'
    mistakes = confident_mistakes(results, names, MAX_MISTAKES)
    if not mistakes:
        return [], f'No mistakes in {len(results.paths)} videos.'
    found, reasons = [], []
    for mistake in mistakes:
        maps, reason = _attempt(partial(_explain, recognizer, names, mistake), mistake['path'])
        found += [maps] if maps is not None else []
        reasons += [reason] if reason else []
    more = f' {len(reasons) - 1} more videos have no maps.' if len(reasons) > 1 else ''
    return found, f'{reasons[0]}{more}' if reasons else ''


def _explain(recognizer: Recognizer, names: Sequence[str], mistake: Mapping[str, Any]) -> MistakeMaps:
    path = mistake['path']
    if not Path(path).exists():
        raise FileNotFoundError(f'there is no such file in {Path.cwd()}')
    sources, is_single = find_sources(path, frame_names=recognizer.frame_names)
    if not is_single:
        raise ValueError('it is not a single video')
    samples = next(load_samples(sources, recognizer.pipelines, 1))
    if samples.errors:
        raise ValueError(samples.errors[0])
    if len(names) != len(recognizer.class_names):
        raise ValueError(f'the model has {len(recognizer.class_names)} classes, the results have {len(names)}')
    own = dict(zip(names, recognizer.class_names, strict=True))
    pair = [explain_samples(recognizer, samples, path, label=own[mistake[key]]) for key in ('predicted', 'label')]
    return MistakeMaps(*pair)
