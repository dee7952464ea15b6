"""What people have, as videos to predict: files, folders, lists, frames in memory, contents of files, and URLs."""

import contextlib
import logging
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.datasets.annotation import read_lines
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.media_files import is_video
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.span_lists import is_span_list, parse_labels, read_span_rows
from dsanet.datasets.transforms.base import BadSample, check_number
from dsanet.datasets.video.readers import Frames, Indices, VideoReader
from dsanet.datasets.video.span_reader import Span

LOGGER = logging.getLogger(__name__)

LIST_SUFFIXES = ('.txt', '.lst')
_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
_URL = re.compile(r'(https?)://', re.IGNORECASE)
_LABELS = re.compile(r'\d{1,9}(,\d{1,9})*', re.ASCII)
_NUMBERED = re.compile(r'(.*?)(\d+)(\.\w+)', re.DOTALL)
_MAX_DOWNLOAD_BYTES = 2**32
_DOWNLOAD_TIMEOUT_S = 30.0

Video = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8]


class ArrayReader(VideoReader):
    """Frames in memory, as an open video.

    Args:
        frames: uint8 RGB (T, H, W, 3).
        fps: frames per second; None if unknown.
        name: for messages.
    """

    package = 'numpy'

    def __init__(self, frames: Frames, fps: float | None, name: str) -> None:
        self.path = name
        self.num_frames = len(frames)
        self.fps = fps
        self._frames = frames

    def _read(self, indices: Indices) -> Frames:
        return self._frames[indices]  # (len, H, W, 3)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Source:
    """One video to predict.

    Args:
        name: of the video in results.
        content: path of a video, URL, content of a file, or frames (T, H, W, 3).
        frame_names: file names of the frames, if the path is a folder of frames.
        fps: frames per second of frames in memory, or of a folder of frames; None if unknown.
        span: start and end in seconds, if the path is a video of which only a span is meant.
        labels: class numbers in the list; empty if there are none.
    """

    name: str
    content: Any
    frame_names: FrameNames | None = None
    fps: float | None = None
    span: Span | None = None
    labels: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """'video' for a file, 'frames' for a folder of frames, 'array' for frames in memory."""
        if isinstance(self.content, np.ndarray):
            return 'array'
        return 'video' if self.frame_names is None else 'frames'

    def check_exists(self) -> None:
        """Raise a FileNotFoundError if the path does not exist."""
        if isinstance(self.content, str) and not _URL.match(self.content) and not os.path.exists(self.content):
            raise FileNotFoundError(f'{os.path.abspath(self.content)} does not exist')

    @contextlib.contextmanager
    def open(self) -> Iterator[dict[str, Any]]:
        """Yield the record that a pipeline for this kind starts with; files in memory and URLs become temporary files.

        Raises:
            BadSample: a URL cannot be downloaded, or a folder lacks frames.
        """
        if self.kind == 'array':
            reader = ArrayReader(self.content, self.fps, self.name)
            yield {'path': self.name, 'reader': reader, 'num_frames': reader.num_frames, 'fps': self.fps}
        elif self.frame_names is not None:
            number, problem = self.frame_names.count(os.listdir(self.content))
            if problem is not None:
                raise BadSample(f'{self.name}: {problem}', self.name, problem)
            names = {'filename_tmpl': self.frame_names.template, 'start_index': self.frame_names.start_index}
            yield {'path': self.content, 'num_frames': number, 'fps': self.fps, **names}
        elif isinstance(self.content, bytes):
            with tempfile.NamedTemporaryFile(prefix='dsanet-') as file:
                file.write(self.content)
                file.flush()
                yield {'path': file.name}
        elif _URL.match(self.content):
            with tempfile.NamedTemporaryFile(prefix='dsanet-') as file:
                _download(self.content, file)
                yield {'path': file.name}
        else:
            yield {'path': self.content} if self.span is None else {'path': self.content, 'span': self.span}


def find_sources(
    videos: Video | Sequence[Video],
    fps: float | None = None,
    allow_urls: bool = False,
    frame_names: FrameNames | None = None,
    data_root: str | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[list[Source], bool]:
    """Find the videos that are meant.

    Args:
        videos: a path, an array (T, H, W, 3), the content of a file, or a URL; or a sequence of these. The path of a
            folder means the frames in it, or all videos in it and its subfolders. A path that ends in .txt is a list
            with a path per line, or with the lines of a dataset's list; a path that ends in .csv is a list of spans.
        fps: frames per second of arrays and of folders of frames; None if unknown.
        allow_urls: download videos from http and https.
        frame_names: file names of frames; None to find them in each folder.
        data_root: folder of the relative paths in a list; None for the working directory or else the list's folder.
        class_names: of the labels in a list of spans; None to skip labels that are not class numbers.

    Returns:
        The videos, and whether ``videos`` is a single one: no sequence, list or folder of videos.

    Raises:
        TypeError, ValueError: a value is of another kind, an array has another shape or type, or a folder is empty, a
            label is not in ``class_names``, or there is a ``data_root`` but no list.
        FileNotFoundError: a list does not exist.
    """
    if data_root is not None and not _has_list(videos):
        raise ValueError(f'data_root={data_root!r} has no effect without a list (.txt, .csv); leave it out')
    if isinstance(videos, list | tuple):
        # A list beside single videos may need the folder.
        many = [
            find_sources(video, fps, allow_urls, frame_names, data_root if _has_list(video) else None, class_names)[0]
            for video in videos
        ]
        return [replace_name(source, i) for i, source in enumerate(s for sources in many for s in sources)], False
    if fps is not None:
        check_number('fps', fps, 0.001, 1e6)
    if isinstance(videos, np.ndarray):
        _check_array(videos)
        return [Source('array', videos, fps=fps)], True
    if isinstance(videos, bytes | bytearray):
        if not videos:
            raise ValueError('the content of a video must not be empty')
        return [Source('bytes', bytes(videos))], True
    if not isinstance(videos, str | os.PathLike):
        allowed = 'a path, a URL, an array (T, H, W, 3), bytes, or a list of these'
        raise TypeError(f'a video must be {allowed}, got {type(videos).__name__}')
    path = os.fspath(videos)
    if not path:
        raise ValueError('the path of a video must not be empty')
    if _URL.match(path):
        if not allow_urls:
            raise ValueError(f'{_public_url(path)} is a URL; pass allow_urls=True (--allow-urls) to download it')
        return [Source(_public_url(path), path)], True
    if os.path.isdir(path):
        found, is_single = _find_in_folder(path, frame_names)
        return [replace(one, fps=fps) if one.kind == 'frames' else one for one in found], is_single
    if is_span_list(path):
        return _read_span_list(path, data_root, class_names), False
    if path.lower().endswith(LIST_SUFFIXES):
        found = _read_list(path, frame_names, data_root)
        return [replace(one, fps=fps) if one.kind == 'frames' else one for one in found], False
    return [Source(path, path)], True


def _has_list(videos: Any) -> bool:
    if isinstance(videos, list | tuple):
        return any(map(_has_list, videos))
    if not isinstance(videos, str | os.PathLike):
        return False
    path = os.fspath(videos)
    return not _URL.match(path) and (path.lower().endswith(LIST_SUFFIXES) or is_span_list(path))


def _public_url(url: str) -> str:
    """Return a URL without user, password, query and fragment, which may be secret."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))


def replace_name(source: Source, number: int) -> Source:
    """Return a source with its number in the name, if it has no path that names it."""
    if isinstance(source.content, str):
        return source
    return Source(f'{source.name} {number}', source.content, source.frame_names, source.fps)


def find_frame_names(folder: str) -> FrameNames | None:
    """Find the file names of the frames in a folder, such as ``img_{:05d}.jpg``; None if there are no images.

    Raises:
        ValueError: the images are not the numbered frames of one video.
    """
    images = sorted(name for name in os.listdir(folder) if name.lower().endswith(_IMAGE_SUFFIXES) and name[0] != '.')
    if not images:
        return None
    matches = [_NUMBERED.fullmatch(name) for name in images]
    found = [match for match in matches if match is not None]
    if len(found) < len(images) or len({(match[1], match[3]) for match in found}) > 1:
        other = next((name for name, match in zip(images, matches, strict=True) if match is None), images[-1])
        examples = ' and '.join(map(repr, dict.fromkeys([images[0], other])))
        raise ValueError(f'{folder} has images that are not the numbered frames of one video, such as {examples}')
    prefix, digits, suffix = found[0].groups()
    padded = {len(match[2]) for match in found if match[2].startswith('0')}
    width = f':0{len(digits)}d' if padded - {1} else ''
    literal = [text.replace('{', '{{').replace('}', '}}') for text in (prefix, suffix)]
    names = FrameNames(f'{literal[0]}{{{width}}}{literal[1]}', min(int(match[2]) for match in found))
    if names.number(images[0]) is None or names.count(images)[0] < len(images):
        raise ValueError(f'{folder}: the numbers of the frames have different formats, such as {images[0]!r}')
    return names


def _check_array(frames: npt.NDArray[Any]) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f'frames must have the shape (T, H, W, 3), got {frames.shape}')
    if frames.dtype != np.uint8:
        raise ValueError(f'frames must be uint8 RGB from 0 to 255, got {frames.dtype}')


def _find_in_folder(folder: str, frame_names: FrameNames | None) -> tuple[list[Source], bool]:
    """Return the folder as frames, or all videos and folders of frames in it, sorted."""
    found = []
    problems = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        try:
            names = _frames_in(place, frame_names)
        except ValueError as error:  # images of another kind, such as plots
            problems.append(error)
            names = None
        if names is not None:
            if place == folder:
                return [Source(folder, folder, names)], True
            found.append(Source(place, place, names))
        paths = [os.path.join(place, name) for name in sorted(files) if is_video(name) and not name.startswith('.')]
        found += [Source(path, path) for path in paths]
    if not found:
        raise problems[0] if problems else ValueError(f'folder {folder} has neither videos nor frames')
    for problem in problems:
        LOGGER.warning('%s; they are not predicted', problem)
    return found, False


def _frames_in(folder: str, frame_names: FrameNames | None) -> FrameNames | None:
    """Return the names of the frames in a folder; None if it has videos, or no frames."""
    files = os.listdir(folder)
    if any(is_video(name) and os.path.isfile(os.path.join(folder, name)) for name in files):
        return None
    if frame_names is not None and frame_names.count(files)[0]:
        return frame_names
    return find_frame_names(folder)


def _read_list(file: str, frame_names: FrameNames | None, data_root: str | None) -> list[Source]:
    """Return the videos of a list with a path per line; fields after the path are those of a dataset's list."""
    found = []
    for text in read_lines(file, 'list'):
        if not text or text.startswith('#'):
            continue
        path, rest = _split_line(text, [data_root] if data_root is not None else ['', os.path.dirname(file)])
        names = _frames_in(path, frame_names) if os.path.isdir(path) else None
        labels = tuple(map(int, rest[-1].split(','))) if rest and _LABELS.fullmatch(rest[-1]) else ()
        found.append(Source(path, path, names, labels=labels))
    if not found:
        raise ValueError(f'list {file} names no videos')
    return found


def _read_span_list(file: str, data_root: str | None, class_names: Sequence[str] | None) -> list[Source]:
    """Return the videos, or spans of videos, of a CSV list."""
    found = []
    folders = [data_root] if data_root is not None else ['', os.path.dirname(file)]
    for row in read_span_rows(file, needs_labels=False):
        paths = [os.path.join(folder, row.video) for folder in folders]
        path = next(filter(os.path.exists, paths), paths[0])
        try:
            labels = _span_labels(row.label, class_names)
        except ValueError as error:
            hint = 'labels of other classes must be class numbers'
            raise ValueError(f'{file}:{row.line}: {error}; {hint}') from None
        record = VideoRecord(path, labels or (0,), file, row.line, start=row.start, end=row.end)
        found.append(Source(record.key, path, span=record.span, labels=labels))
    if not found:
        raise ValueError(f'list {file} names no videos')
    return found


def _span_labels(text: str, class_names: Sequence[str] | None) -> tuple[int, ...]:
    if class_names is None:
        return tuple(map(int, text.split(','))) if _LABELS.fullmatch(text) else ()
    return tuple(parse_labels(text, class_names)) if text else ()


def _split_line(line: str, folders: Sequence[str]) -> tuple[str, list[str]]:
    """Return the path that a line starts with, the longest one that exists because paths may contain spaces, and the
    fields after it."""
    fields = line.split(' ')
    names = [' '.join(fields[:n]) for n in range(len(fields), 0, -1)]
    paths = [(os.path.join(folder, name), name) for name in names for folder in folders]
    guess = next(filter(is_video, reversed(names)), line)
    found = next((pair for pair in paths if os.path.exists(pair[0])), (os.path.join(folders[0], guess), guess))
    return found[0], line[len(found[1]) :].split()


def _download(url: str, file: Any) -> None:
    """Write the content of a URL to a file.

    Raises:
        BadSample: the server reports an error, does not respond, or sends too much or too little.
    """
    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as response:
            while block := response.read(2**20):
                file.write(block)
                if file.tell() > _MAX_DOWNLOAD_BYTES:
                    raise ValueError(f'it is larger than {_MAX_DOWNLOAD_BYTES >> 30} GiB')
            if missing := getattr(response, 'length', None):  # not an error for http.client
                raise ValueError(f'the connection was closed {missing} bytes before the end')
        file.flush()
    except (OSError, ValueError) as error:
        status = f'HTTP status {error.code} ' if isinstance(error, urllib.error.HTTPError) else ''
        reason = f'cannot be downloaded: {status}{getattr(error, "reason", None) or error}'
        name = _public_url(url)
        raise BadSample(f'{name} {reason}', name, reason) from error
