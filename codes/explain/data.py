"""The test data of a recognizer's config, decoded once."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from dsanet.config.loading import read_section
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.classes import class_names_of
from dsanet.datasets.workers import WatchedLoader
from dsanet.engine.evaluator import EXPECTED_ERRORS, progress_bar
from dsanet.engine.preparation import build_loader
from dsanet.inference.recognizer import Recognizer
from dsanet.utils.class_names import ClassNames, check_same_class_names
from dsanet.utils.text import strip_worker_traceback

LOGGER = logging.getLogger(__name__)


def build_test_loader(recognizer: Recognizer) -> WatchedLoader:
    """Build the loader of the config's ``test_dataloader``, as a test does.

    Raises:
        FileNotFoundError, ValueError: the data cannot be read, or their classes are not those of the model.
    """
    runtime: RuntimeCfg = read_section(recognizer.config, 'runtime', RuntimeCfg)
    loader = build_loader(recognizer.config['test_dataloader'], 'test_dataloader', runtime)
    dataset: Any = loader.dataset
    names = class_names_of(dataset, 'test')
    dataset.check_labels(recognizer.model.num_classes)
    if recognizer.class_names != [str(k) for k in range(recognizer.model.num_classes)]:  # not numbers for unknown names
        check_same_class_names(ClassNames(recognizer.class_names, 'the checkpoint'), names)
    return loader


def read_batches(loader: WatchedLoader) -> Iterator[Mapping[str, Any]]:
    """Yield the batches of a loader.

    Raises:
        ValueError: a video cannot be read; the error names it.
        OSError: an error of the machine.
    """
    try:
        yield from progress_bar(loader, 'videos')
    except EXPECTED_ERRORS as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        raise ValueError(strip_worker_traceback(error)) from error


def check_control(model: Recognizer, control: Recognizer) -> None:
    """Check that a control has the classes of a model; log a warning if its frames are sampled differently.

    Raises:
        ValueError: the classes differ.
    """
    classes = model.class_names, control.class_names
    if classes[0] != classes[1]:
        number, pair = next(
            ((k, pair) for k, pair in enumerate(zip(*classes, strict=False)) if pair[0] != pair[1]), (None, None)
        )
        first = f'; class {number} is {pair[0]!r} and {pair[1]!r}' if pair is not None else ''
        sizes = ' and '.join(str(len(names)) for names in classes)
        raise ValueError(f'the model and the control have different classes ({sizes}{first})')
    if model.steps != control.steps:
        LOGGER.warning('The test pipeline of the control differs; both are tested with the pipeline of the model')
