"""Write a trained model as a folder to share: weights, ``config.json`` and a model card, as on the Hugging Face Hub."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dsanet import __version__
from dsanet.config.registry import MODELS, build
from dsanet.datasets.classes import find_class_names
from dsanet.inference.checkpoint_config import class_names_for_checkpoint, config_for_checkpoint, config_to_share
from dsanet.inference.model_sources import CONFIG_FILE, LIBRARY, WEIGHTS_FILE, read_model
from dsanet.inference.pipelines import find_sampling
from dsanet.inference.sharing.model_card import write_card
from dsanet.inference.sharing.run_facts import KEY, find_run_facts
from dsanet.models.summary import find_input_shape, summarize_model
from dsanet.models.weights.loading import get_class_names, load_weights, match_state_dict, read_weights
from dsanet.utils.class_names import ClassNames
from dsanet.utils.files import check_writable, write_atomically
from dsanet.utils.safetensors_io import write_safetensors

CARD_FILE = 'README.md'
FILES = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)


def publish(
    source: str | Path,
    folder: Path,
    config: str | Path | None = None,
    options: Iterable[str] = (),
    imports: Iterable[str] = (),
    allow_pickle: bool = False,
    license_id: str = 'unknown',
    repo: str | None = None,
) -> int:
    """Write ``model.safetensors``, ``config.json`` and the model card ``README.md`` of a trained model.

    The weights have the names and types of the checkpoint, averaged ones (EMA) if it has any; its optimizer and
    absolute paths are left out. ``load_recognizer('local-dir:FOLDER')`` gives the same scores as the checkpoint.

    Args:
        source: as for ``read_model``.
        folder: a new or empty folder.
        config: config of weights from another project; None for the config in the checkpoint.
        options, imports: as for ``load_config``.
        allow_pickle: as for ``read_checkpoint``.
        license_id: identifier of the license in the model card, such as 'apache-2.0'.
        repo: USER/NAME on the Hugging Face Hub for the model card; nothing is uploaded here.

    Returns:
        The number of weight tensors.

    Raises:
        FileNotFoundError, ValueError: the folder is not empty or not writable, there are no class names, or an error
            in the checkpoint or config. Nothing is written.
        OSError: the files cannot be written. A part of them is removed.
    """
    check_new_folder(folder)
    file, content = read_model(source, allow_pickle)
    loaded = config_for_checkpoint(file, content, config, options, imports)
    model = build(loaded['model'], MODELS, 'model')
    state = _weights_for(model, file, content)
    names = _class_names(file, content, loaded, model.num_classes, config is not None)
    shared = json.loads(json.dumps(config_to_share(loaded)))
    description = {
        'library_name': LIBRARY,
        'library_version': __version__,
        'pipeline_tag': 'video-classification',
        'num_classes': model.num_classes,
        'id2label': {str(number): name for number, name in enumerate(names)},
        'label2id': {name: number for number, name in enumerate(names)},
        'sampling': find_sampling(shared['test_dataloader']['dataset'].get('pipeline', [])),
        'normalization': {
            'mean': [round(value, 4) for value in model.data_preprocessor.mean.tolist()],
            'std': [round(value, 4) for value in (1 / model.data_preprocessor.scale).tolist()],
        },
        'config': shared,
    }
    card = write_card(folder.absolute().name, description, content, _costs(shared), license_id, repo)
    check_new_folder(folder)  # another process may have written to it meanwhile
    weights = {'state_dict': state, 'class_names': names, 'config': shared}
    if facts := find_run_facts(content):
        weights[KEY] = facts
    _write(folder, weights, description, card)
    return len(state)


def check_new_folder(folder: Path) -> None:
    """Raise a ValueError if a folder is not empty or cannot be written."""
    check_writable(folder, 'FOLDER')
    if folder.is_dir() and (found := sorted(path.name for path in folder.iterdir())):
        raise ValueError(f'FOLDER {folder} must be new or empty, but contains {", ".join(found[:3])}')


def _weights_for(model: nn.Module, file: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for a model, with the names of the model and the types of the checkpoint."""
    load_weights(model, file, strict=True, content=content)
    target = model.state_dict()
    return match_state_dict(read_weights(file, target.keys(), content=content).state, target)[0]


def _class_names(
    file: Path, content: Mapping[str, Any], config: Mapping[str, Any], num_classes: int, is_given: bool
) -> list[str]:
    path = 'test_dataloader.dataset'
    data = ClassNames(None, path)
    if is_given or get_class_names(content) is None:
        data = find_class_names(config['test_dataloader']['dataset'], path)
    names = class_names_for_checkpoint(file, content, num_classes, data)
    if names is None:
        raise ValueError(
            f'{file} has no class names; pass a file with one name per line: '
            f'--cfg-options {path}.class_file=classes.txt'
        )
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'{file} has several classes with the name {duplicate!r}; label2id requires unique names')
    return names


def _costs(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return parameters, GMACs and input shape of one test view; None if the shape is unknown."""
    try:
        return summarize_model(config['model'], find_input_shape(config))
    except (RuntimeError, ValueError):
        return None


def _write(folder: Path, checkpoint: Mapping[str, Any], description: Mapping[str, Any], card: str) -> None:
    """Write all files, or none if one cannot be written."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_safetensors(checkpoint, folder / WEIGHTS_FILE)
        text = json.dumps(description, indent=2) + '\n'
        write_atomically(text.encode(), folder / CONFIG_FILE)
        write_atomically(card.encode(), folder / CARD_FILE)
    except BaseException:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise
