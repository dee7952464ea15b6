"""Find trained models: checkpoint files, ``local-dir:FOLDER``, and ``hf-hub:USER/NAME`` on the Hugging Face Hub.

The folder, or the repository on the Hub, contains the weights and may have a ``config.json``. That of
``dsanet publish`` adds config and class names; that of another project only class names (``id2label``, or
``label_names`` of timm).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsanet.inference.sharing import hub
from dsanet.models.weights.loading import get_class_names
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.files import check_path
from dsanet.utils.json_lines import read_json

LOCAL_DIR = 'local-dir:'
HF_HUB = 'hf-hub:'
WEIGHTS_FILE = 'model.safetensors'
CONFIG_FILE = 'config.json'
LIBRARY = 'dsanet'

_WEIGHTS_FILES = (WEIGHTS_FILE, 'pytorch_model.bin')
_MAX_CONFIG_BYTES = 2**26


def find_model(source: str | Path) -> Path:
    """Return the weights file of a model.

    Args:
        source: a file; ``local-dir:FOLDER``; or ``hf-hub:USER/NAME`` or ``hf-hub:USER/NAME@REVISION``, which is
            downloaded to the cache of huggingface_hub unless it is there already.

    Raises:
        FileNotFoundError: the file, folder or repository does not exist, or has no weights.
        ValueError: a folder without ``local-dir:``, a wrong name, or huggingface_hub is not installed.
        OSError: the download failed.
    """
    text = check_path(source, 'checkpoint')
    if text.startswith(HF_HUB):
        return _download(text)
    if text.startswith(LOCAL_DIR):
        if text == LOCAL_DIR:
            raise ValueError(f'{text} must be followed by a folder')
        folder = Path(text.removeprefix(LOCAL_DIR)).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f'{text}: {"not a folder" if folder.exists() else "folder not found"}')
        found = next((folder / name for name in _WEIGHTS_FILES if (folder / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(f'{text} has no {" or ".join(_WEIGHTS_FILES)}')
        return found
    file = Path(text)
    if file.is_dir():
        raise ValueError(f'checkpoint {text} is a folder; use {LOCAL_DIR}{text} if it has a {WEIGHTS_FILE}, or a file')
    if not file.exists() and re.fullmatch(r'[\w.-]+/[\w.-]+', text) and not file.suffix:
        raise FileNotFoundError(
            f'checkpoint {text} does not exist; use {HF_HUB}{text} for a model on the Hugging Face Hub, or '
            f'{LOCAL_DIR}FOLDER for a folder'
        )
    return file


def default_output(source: str, suffix: str) -> Path:
    """Return the file to which a model is written in another format.

    Args:
        source: see :func:`find_model`.
        suffix: of the format, such as '.onnx'.

    Returns:
        A file next to the file or folder; in the working directory for a model on the Hub.
    """
    if source.startswith(HF_HUB):
        return Path(source.removeprefix(HF_HUB).partition('@')[0].rpartition('/')[2] + suffix)
    if source.startswith(LOCAL_DIR):
        folder = Path(source.removeprefix(LOCAL_DIR)).expanduser()
        folder = folder if folder.name not in ('', '..') else folder.resolve()
        return folder.with_name(folder.name + suffix)
    return Path(source).with_suffix(suffix)


def read_model(source: str | Path, allow_pickle: bool = False) -> tuple[Path, dict[str, Any]]:
    """Return the weights file of a model and its content, completed from ``config.json``.

    Args:
        source: see :func:`find_model`.
        allow_pickle: see ``read_checkpoint``.

    Returns:
        The file, and the content as from ``read_checkpoint``.

    Raises:
        ValueError: a file is damaged, or ``config.json`` contradicts the weights file; and those of
            :func:`find_model`.
    """
    file = find_model(source)
    content = read_checkpoint(file, allow_pickle)
    if str(source).startswith((LOCAL_DIR, HF_HUB)) and (config := file.with_name(CONFIG_FILE)).is_file():
        if config.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError(f'{config} has more than {_MAX_CONFIG_BYTES} bytes; it is not the config of a model')
        description = read_json(config)
        for key, value in _known(description).items():
            # Tuples of a .pth file are lists in JSON.
            if key in content and json.loads(json.dumps(content[key])) != value:
                raise ValueError(f'{config} and {file.name} have different {key}; publish the model again')
            content.setdefault(key, value)
    return file, content


def _download(source: str) -> Path:
    repo, at, revision = source.removeprefix(HF_HUB).partition('@')
    if at and not revision:
        raise ValueError(f'{source} must end in a branch, tag or commit, or without @')
    hub.check_repo(repo, HF_HUB.rstrip(':'))
    for name in _WEIGHTS_FILES:
        file = hub.download_file(repo, name, revision or None)
        if file is not None:
            hub.download_file(repo, CONFIG_FILE, file.parent.name)  # of the same commit
            return file
    raise FileNotFoundError(f'{source} has no {" or ".join(_WEIGHTS_FILES)}')


def _known(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return class names and config of a ``config.json``, as far as it has them."""
    known: dict[str, Any] = {}
    if (names := _class_names(description)) is not None:
        known['class_names'] = names
    if description.get('library_name') == LIBRARY and isinstance(description.get('config'), Mapping):
        known['config'] = description['config']
    return known


def _class_names(description: Mapping[str, Any]) -> list[str] | None:
    """Return the names of ``id2label`` or ``label_names``; None without them, or if they are only placeholders."""
    names: Any = description.get('id2label')
    if isinstance(names, Mapping):
        numbers = [str(number) for number in range(len(names))]
        names = [names[number] for number in numbers] if names.keys() == set(numbers) else None
    else:
        names = description.get('label_names')
    names = get_class_names({'class_names': names})
    is_placeholder = names is not None and all(re.fullmatch(r'LABEL_\d+', name) for name in names)
    return None if is_placeholder else names
