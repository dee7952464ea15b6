"""Compare a run with the checkpoint that it resumes, and adapt progress that no longer fits the config."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from dsanet.config.loading import find_differences
from dsanet.datasets.records import VideoRecords
from dsanet.engine.checkpointing import TrainState, find_checkpoint
from dsanet.models.weights.loading import describe_difference, get_class_names
from dsanet.utils import distributed
from dsanet.utils.class_names import ClassNames, check_same_class_names
from dsanet.utils.files import hash_file
from dsanet.utils.machine_faults import is_machine_fault

LOGGER = logging.getLogger(__name__)

# Config sections that affect the result of training.
_SECTIONS = ('model', 'train_dataloader', 'optimizer', 'parameters', 'schedule', 'train_cfg', 'runtime')
TRAIN_DATA = 'the videos, labels or order of train_dataloader'
VAL_DATA = 'the videos or labels of val_dataloader'


def resume_run(trainer: Any, source: str) -> None:
    """Continue a run from a checkpoint, and log what differs.

    Args:
        trainer: the ``Trainer`` of the run.
        source: 'auto' for the latest readable checkpoint of the work dir, if any; or a checkpoint file.

    Raises:
        FileNotFoundError, ValueError: the checkpoint is missing, damaged, or of another model or optimizer.
    """
    found = find_checkpoint(source, trainer.work_dir)
    if found is None:
        return
    file, content = found
    iterations = trainer.state.iterations_per_epoch
    changes = compare_run(file, content, trainer.config, iterations, trainer.class_names, trainer.inputs)
    try:
        trainer.load_state_dict(content)
    except Exception as error:  # wrong contents raise errors of many types
        if is_machine_fault(error):
            raise
        text = describe_mismatch(content, trainer.model.state_dict(), changes, error)
        raise ValueError(f'{file} does not match the model or optimizer: {text}') from error
    for change in changes:
        LOGGER.warning('Run differs from the checkpoint: %s. Results will not be bit-identical', change)
    for text in adapt_progress(trainer.state, content, trainer.config, trainer.inputs):
        LOGGER.warning('%s', text)
    trainer.inputs = {**content.get('inputs', {}), **trainer.inputs}
    LOGGER.info('Resumed from %s (%s completed)', file, trainer.state.resumed_from)
    best = trainer.state.best
    if best is not None and not (trainer.work_dir / 'best.pth').exists():
        LOGGER.warning(
            '%s has no best.pth: that of epoch %d is not copied, and is written again only if a later epoch is better',
            trainer.work_dir,
            best.get('epoch', 0),
        )


def hash_inputs(
    config: Mapping[str, Any],
    train_loader: DataLoader[Any],
    val_loader: DataLoader[Any] | None,
    load_from: str | None,
) -> dict[str, str]:
    """Return hashes of the inputs that a config only refers to: lists and weights.

    Args:
        config: of the run.
        train_loader, val_loader: their datasets have ``records``.
        load_from: weights that the run starts from.

    Returns:
        The first digits of the hashes, by name; files that do not exist are skipped.
    """
    hashes = {TRAIN_DATA: hash_records(train_loader.dataset)}
    if val_loader is not None:
        hashes[VAL_DATA] = hash_records(val_loader.dataset, ordered=False)
    pretrained = _section(_section(config, 'model'), 'backbone').get('pretrained')
    for name, file in (('model.backbone.pretrained', pretrained), ('--load-from', load_from)):
        if file is not None and Path(file).is_file():
            hashes[f'the content of the {name} file'] = hash_file(Path(file))
    return {name: value[:16] for name, value in hashes.items()}


def hash_records(dataset: Any, ordered: bool = True) -> str:
    """Return the SHA-256 of the paths, labels and lengths of a dataset's videos.

    Paths are taken relative to the common folder of all videos, so that data can be moved, for example to the local
    disk of another machine.

    Args:
        dataset: with ``records``, or a mixture of datasets.
        ordered: whether the order of the videos matters.
    """
    parts = getattr(dataset, 'datasets', [dataset])
    digest = hashlib.sha256()
    for part in parts:
        for lines in _record_lines(VideoRecords.of(part.records), ordered):
            digest.update(lines)
        digest.update(b'\n')
    return digest.hexdigest()


def _record_lines(records: VideoRecords, ordered: bool) -> Iterator[bytes]:
    """Yield text with a line for each video: its key relative to the common folder, its labels and its length."""
    begin = 0
    every: list[str] = []
    for keys in records.key_chunks(skip=len(records.paths.common_folder())):
        part = slice(begin, begin + len(keys))
        begin += len(keys)
        labels, frame_counts = records.labels_in(part), records.frame_counts_in(part)
        # Many videos have the same labels or the same length.
        labels_text = {one: f'\t{one}\t'.encode() for one in set(labels)}
        frames_text = {one: f'{one}\n'.encode() for one in set(frame_counts)}
        lines = zip(keys, map(labels_text.__getitem__, labels), map(frames_text.__getitem__, frame_counts), strict=True)
        if ordered:
            yield b''.join(chain.from_iterable(lines))
        else:
            every += (b''.join(line).decode('utf-8', 'surrogateescape') for line in lines)
    yield ''.join(sorted(every)).encode('utf-8', 'surrogateescape')


def compare_run(
    file: Path,
    content: Mapping[str, Any],
    config: Mapping[str, Any],
    iterations_per_epoch: int,
    class_names: ClassNames,
    inputs: Mapping[str, str],
) -> list[str]:
    """Return all differences between a run and its checkpoint that keep it from being bit-identical.

    Args:
        file: the checkpoint.
        content: of the checkpoint.
        config, iterations_per_epoch, class_names: of the run.
        inputs: of the run, from :func:`hash_inputs`.

    Returns:
        Texts such as ``optimizer.lr was 0.1 and is 0.2``.

    Raises:
        ValueError: the classes have other names or another order.
    """
    check_same_class_names(ClassNames(get_class_names(content), str(file)), class_names)
    changes = find_changes(content, config, iterations_per_epoch, distributed.world_size())
    return [*changes, *_find_changed_inputs(content, inputs).values()]


def find_changes(
    content: Mapping[str, Any], config: Mapping[str, Any], iterations_per_epoch: int, world_size: int
) -> list[str]:
    """Return all differences that keep a resumed run from being bit-identical to the uninterrupted one.

    Args:
        content: the checkpoint.
        config: of the resumed run.
        iterations_per_epoch, world_size: of the resumed run.

    Returns:
        Texts such as ``optimizer.lr was 0.1 and is 0.2``.
    """
    numbers = {'iterations_per_epoch': iterations_per_epoch, 'world_size': world_size}
    changes = find_differences({name: content.get(name) for name in numbers}, numbers)
    for section in _SECTIONS:
        changes |= find_differences(content['config'].get(section, {}), config.get(section, {}), section)
    return list(changes.values())


def describe_mismatch(
    content: Mapping[str, Any], target: Mapping[str, Tensor], changes: Sequence[str], error: Exception
) -> str:
    """Return why a checkpoint does not fit a run, in one line: differences of weights, then of configs.

    Args:
        content: the checkpoint.
        target: state dict of the model.
        changes: from :func:`find_changes`.
        error: raised by loading; used if the weights do not differ.
    """
    weights = describe_difference(content['state_dict'], target)
    related = [change for change in changes if change.startswith(('model.', 'optimizer.', 'parameters.'))]
    return '; '.join([weights or (str(error).strip() or type(error).__name__).splitlines()[0], *related[:4]])


def _find_changed_inputs(content: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, str]:
    """Return a text for each input of checkpoint and run that differs, by name."""
    earlier = _section(content, 'inputs')
    changed = {name: earlier[name] for name in inputs if earlier.get(name, inputs[name]) != inputs[name]}
    return {name: f'{name} changed (SHA-256 was {was} and is {inputs[name]})' for name, was in changed.items()}


def is_validation_due(epoch: int, config: Mapping[str, Any]) -> bool:
    """Return whether a config validates after an epoch, given by the number of completed epochs."""
    cfg = _section(config, 'train_cfg')
    is_last = epoch == cfg.get('max_epochs')
    return 'val_dataloader' in config and epoch > 0 and (is_last or epoch % cfg.get('val_interval', 1) == 0)


def adapt_progress(
    state: TrainState, content: Mapping[str, Any], config: Mapping[str, Any], inputs: Mapping[str, str]
) -> list[str]:
    """Adapt the progress of a resumed run to a changed config.

    Args:
        state: has been loaded from the checkpoint.
        content: of the checkpoint.
        config: of the run.
        inputs: of the run, from :func:`hash_inputs`.

    Returns:
        Texts for the log, one per change.
    """
    assert state.resumed_from is not None, 'the state is loaded first'
    texts = []
    if state.position != state.resumed_from:
        texts.append(
            f'The batch size or the list has changed: continuing epoch {state.epoch + 1} after iteration '
            f'{state.iteration} of {state.iterations_per_epoch}; some videos may be used twice in this epoch'
        )
    is_due = is_validation_due(state.epoch, config) and not is_validation_due(state.epoch, content['config'])
    if is_due and not state.resumed_from.iteration:
        state.validated = False
        texts.append(f'Epoch {state.epoch} was not validated, but its validation is now due; validating it')
    return texts + _adapt_best(state, content, config, VAL_DATA in _find_changed_inputs(content, inputs))


def _adapt_best(
    state: TrainState, content: Mapping[str, Any], config: Mapping[str, Any], has_other_data: bool
) -> list[str]:
    if state.best is None:
        return []
    was, now = (_section(one, 'runtime').get('save_best', 'top1') for one in (content['config'], config))
    value = state.best.get(now)
    is_known = isinstance(value, int | float)
    if is_known and not has_other_data:
        if now == was:
            return []
        state.num_worse = 0
        return [f'The best epoch is now chosen by {now}; so far it is epoch {state.best.get("epoch")} with {value:.4g}']
    reason = 'the validation data has changed' if is_known else f'the checkpoint has no {now} for its best epoch'
    shown = ', '.join(f'{name} {number:.4g}' for name, number in state.best.items() if isinstance(number, int | float))
    state.best, state.num_worse = None, 0
    return [f'Resetting the best epoch: {reason}. The next validation replaces best.pth ({shown})']


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a dict in a config or checkpoint, which may be missing or of another type."""
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}
