"""Folders of features: a file per video, and the recipe that made them."""

import json
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet import __version__
from dsanet.config.loading import find_differences
from dsanet.datasets.media_files import is_video
from dsanet.inference.sources import Source
from dsanet.utils import distributed
from dsanet.utils.files import hash_file, open_atomically, write_atomically

RECIPE_FILE = 'recipe.json'
LEVELS = ('clip', 'snippet', 'video')
FORMATS = ('npz', 'npy')
_CONFIG_SECTIONS = ('imports', 'model', 'metrics')
# Errors of np.load and json for damaged files, and of arrays that are missing or of another kind.
_DAMAGED = (LookupError, ValueError, EOFError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error)
_NOT_COMPARED = ('checkpoint',)  # its hash is


@dataclass(frozen=True)
class VideoFeatures:
    """The features of one video, with D channels.

    Args:
        features: float32, (V, D) for level 'clip', (V, U, D) for 'snippet', (D,) for 'video'; or (rows, D) for
            snippets in time order.
        times: float64, without the last axis of ``features``: seconds from the start of the video to the middle of the
            frames of a row; NaN if the frame rate is unknown.
        video: path of the video.
        num_frames: number of its frames.
        fps: their frame rate; None if unknown.
        labels: class numbers; empty if unknown.
    """

    features: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]
    video: str
    num_frames: int
    fps: float | None
    labels: tuple[int, ...] = ()


def write_features(content: VideoFeatures, file: Path) -> None:
    """Write the features of a video as NPZ, or as NPY with the rest in ``<file>.json``. Missing folders are created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fps = np.nan if content.fps is None else content.fps
    if file.suffix == '.npz':
        with open_atomically(file) as stream:
            np.savez(
                stream,
                features=content.features,
                times=content.times,
                labels=np.array(content.labels, np.int64),
                video=np.array(os.fsencode(content.video)),  # need not be UTF-8
                num_frames=np.array(content.num_frames),
                fps=np.array(fps),
            )
        return
    times = None if np.isnan(content.times).any() else content.times.tolist()
    facts = {'video': content.video, 'num_frames': content.num_frames, 'fps': content.fps, 'times': times}
    write_atomically(json.dumps({**facts, 'labels': content.labels}).encode() + b'\n', _facts_file(file))
    with open_atomically(file) as stream:
        np.save(stream, content.features)


def read_features(file: Path) -> VideoFeatures:
    """Read the features of a video from an NPZ file.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: it is damaged or of another kind.
    """
    try:
        with file.open('rb') as stream, np.load(stream) as arrays:
            fps = float(arrays['fps'])
            return VideoFeatures(
                arrays['features'],
                arrays['times'],
                os.fsdecode(arrays['video'].item()),
                int(arrays['num_frames']),
                None if np.isnan(fps) else fps,
                tuple(arrays['labels'].tolist()),
            )
    except _DAMAGED as error:
        raise ValueError(f'{file} is not a file of features: {error}') from error


def is_finished(file: Path, video: str, labels: tuple[int, ...]) -> bool:
    """Return whether a file has the features of a video, with these labels.

    Raises:
        ValueError: it has the features of another video.
    """
    if not file.exists():
        return False
    try:
        if file.suffix == '.npz':
            with file.open('rb') as stream, np.load(stream) as arrays:
                was, had = os.fsdecode(arrays['video'].item()), arrays['labels'].tolist()
        else:
            facts = json.loads(_facts_file(file).read_bytes())
            was, had = facts['video'], facts['labels']
    except (OSError, *_DAMAGED):
        return False  # damaged; the video is read again
    if was != video:
        raise ValueError(f'{file} has the features of another video, {was}; choose another --out')
    return had == list(labels)


def _facts_file(file: Path) -> Path:
    return file.with_name(f'{file.name}.json')


def video_path(source: Source) -> str:
    """Return the absolute path of a video file or folder of frames."""
    return os.path.abspath(source.name)


def name_files(sources: Sequence[Source], folder: Path, suffix: str) -> list[Path]:
    """Return the file of each video: its path relative to the folder that contains all videos, without suffix.

    Videos that differ only in their suffix keep it.

    Args:
        sources: video files and folders of frames.
        folder: folder of the files.
        suffix: such as 'npz'.

    Raises:
        ValueError: a video occurs twice.
    """
    paths = [video_path(source) for source in sources]
    if len(set(paths)) < len(paths):
        raise ValueError(f'{Counter(paths).most_common(1)[0][0]} is given twice; each video has one file of features')
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    full = [os.path.relpath(path, root) for path in paths]
    short = [os.path.splitext(path)[0] if is_video(path) else path for path in full]
    count = Counter(short)
    names = [one if count[one] == 1 else other for one, other in zip(short, full, strict=True)]
    return [folder / f'{name}.{suffix}' for name in names]


def make_recipe(
    config: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    dataset: Mapping[str, Any],
    checkpoint: str | Path,
    **settings: str | None,
) -> dict[str, Any]:
    """Return everything that features depend on, for JSON.

    Args:
        config: of the model.
        steps: the pipeline, which replaces that of the config.
        dataset: the test dataset of the config.
        checkpoint: file with the weights.
        settings: level, layer and so on.
    """
    sections = {name: config[name] for name in _CONFIG_SECTIONS if name in config}
    # The videos are others than those of the config, so that a test with this config needs its own list and classes.
    others = {'list_file': None, 'data_root': None, 'class_file': None, 'multi_hot': None, 'classes': None}
    kept = {key: value for key, value in dataset.items() if key not in others}
    loader = {'batch_size': config['test_dataloader']['batch_size'], 'dataset': {**kept, 'pipeline': list(steps)}}
    runtime = {name: value for name, value in config.get('runtime', {}).items() if name == 'amp'}
    recipe = {
        'dsanet': __version__,
        'checkpoint': os.path.abspath(checkpoint),
        'checkpoint_sha256': hash_file(Path(checkpoint)),
        **settings,
        'config': {**sections, 'test_dataloader': loader, 'runtime': runtime},
    }
    return json.loads(json.dumps(recipe))  # tuples become lists, as in the file


def read_recipe(folder: Path) -> dict[str, Any]:
    """Return the recipe of a folder of features.

    Raises:
        FileNotFoundError, ValueError: the folder has none, or a damaged one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'folder {folder.absolute()} does not exist')
    file = folder / RECIPE_FILE
    if not file.is_file():
        raise FileNotFoundError(f'{folder} has no {RECIPE_FILE}; it must be a folder written by dsanet features')
    try:
        recipe = json.loads(file.read_bytes())
        if not isinstance(recipe, dict) or not isinstance(recipe['config'], dict):
            raise ValueError('it is not a recipe')
    except (ValueError, KeyError) as error:
        raise ValueError(f'{file} is damaged: {error}') from error
    return recipe


def check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Check that a folder is new or empty, or has features of the same recipe.

    Raises:
        ValueError: it has features of another recipe, or other files.
    """
    if not folder.is_dir():
        return
    if not (folder / RECIPE_FILE).is_file():
        others = sorted(name for name in os.listdir(folder) if not name.startswith(RECIPE_FILE))
        if others:
            raise ValueError(f'{folder} has other files, such as {others[0]}; choose a new or empty folder')
        return
    was, now = ({k: v for k, v in one.items() if k not in _NOT_COMPARED} for one in (read_recipe(folder), recipe))
    if differences := find_differences(was, now):
        first, *more = differences
        rest = f', and {len(more)} more differences ({", ".join(more[:3])})' if more else ''
        raise ValueError(
            f'{folder} has features of another recipe: {differences[first]}{rest}; choose another --out, or remove '
            'the folder'
        )


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write the recipe, unless the folder has it."""
    if not (folder / RECIPE_FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / f'{RECIPE_FILE}.{distributed.rank()}'  # all processes may write it at the same time
        write_atomically(json.dumps(recipe, indent=2).encode() + b'\n', own)
        os.replace(own, folder / RECIPE_FILE)
