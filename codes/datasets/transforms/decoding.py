"""From a path and frame indices to frames.

Video files are opened in one step and decoded in another, because choosing frames needs their number first:
OpenVideo, SampleSnippets, DecodeVideo. Folders of frames know their number: SampleSnippets, DecodeRawFrames.

What is wrong with a file is raised as :class:`BadSample`, what is wrong with the config or the environment is not.
"""

import os

import cv2
import numpy as np

from dsanet.config.arguments import nearest
from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import BadSample, MissingSample, Record, Transform
from dsanet.datasets.video.readers import READERS, Frames, Indices, VideoReader, first_installed
from dsanet.datasets.video.subprocess_reader import IsolatedReader, can_isolate, describe_error


@TRANSFORMS.register_module()
class OpenVideo(Transform):
    """Open a video file and count its frames.

    Args:
        decoder: 'decord' (fast), 'pyav' (reads everything that FFmpeg reads), 'opencv', 'torchcodec', or 'auto' for
            the first of them that is installed.
        time_limit: seconds that a video may take to open, and as many again to decode; then it is a bad sample. It
            holds in data workers on Linux, which decode in a process of their own: there a decoder that crashes is a
            bad sample, too. None for neither. Other processes decode themselves and have no limit.

    Raises:
        ValueError: an unknown decoder, or a time limit that is not above 0.
        BadSample: when called, a file that is no video, or has no frames, or takes too long.
        MissingSample: when called, there is no such file.
        ImportError: when called, the decoder's package is missing; with 'auto', at once, if all of them are.
    """

    requires = ('path',)
    provides = ('reader', 'num_frames')

    def __init__(self, decoder: str = 'decord', time_limit: float | None = 60) -> None:
        if decoder not in (*READERS, 'auto'):
            known = (*READERS, 'auto')
            raise ValueError(f'unknown decoder={decoder!r}.{nearest(decoder, known)} Known: {", ".join(known)}')
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f'time_limit={time_limit!r} must be a number of seconds above 0, or None')
        self.decoder = first_installed() if decoder == 'auto' else decoder
        self.time_limit = time_limit

    def __call__(self, record: Record) -> Record:
        path = record['path']
        if os.path.isdir(path):
            raise _bad(path, 'is a folder; RawFramesDataset reads folders of frames')
        if not os.path.isfile(path):
            text = 'is no file' if os.path.lexists(path) else 'is missing'
            raise MissingSample(f'no video {os.path.abspath(path)}', path, text)
        if not os.path.getsize(path):  # which decoders call all sorts of things
            raise _bad(path, 'is an empty file')
        try:
            reader = self._open(path)
        except ImportError as error:
            others = ' or '.join(repr(name) for name in READERS if name != self.decoder)
            raise ImportError(f'decoder={self.decoder!r} cannot be imported ({error}); try {others}') from error
        except Exception as error:
            raise _bad(path, f'cannot be opened with decoder={self.decoder!r}: {describe_error(error)}') from error
        if reader.num_frames < 1:
            reader.close()
            raise _bad(path, f'has no frames, says decoder={self.decoder!r}')
        record['reader'] = reader
        record['num_frames'] = reader.num_frames
        return record

    def _open(self, path: str) -> VideoReader:
        if self.time_limit is not None and can_isolate():
            return IsolatedReader(self.decoder, path, self.time_limit)
        return READERS[self.decoder](path)


@TRANSFORMS.register_module()
class DecodeVideo(Transform):
    """Decode the chosen frames of the open video, each distinct one once, and close it.

    Raises:
        BadSample: the decoder fails or gives other frames than it was asked for; names the file and the frames.
    """

    requires = ('reader', 'frame_indices')
    provides = ('frames',)
    removes = ('reader',)

    def __call__(self, record: Record) -> Record:
        distinct, place = _distinct(record['frame_indices'])
        reader = record.pop('reader')
        try:
            frames = reader.read(distinct)
            if len(frames) != len(distinct):
                raise ValueError(f'it gave {len(frames)}')
            record['frames'] = _arrange(frames, place, reader.lends_frames)
        except Exception as error:
            decoder = getattr(reader, 'decoder', type(reader).__name__)
            reason = (
                f'{decoder} cannot decode {len(distinct)} frames from {distinct[0]} to {distinct[-1]} of '
                f'{reader.num_frames}: {describe_error(error)}. Another decoder may; else the file is damaged'
            )
            raise BadSample(f'{reader.path}: {reason}', reader.path, reason) from error
        finally:
            reader.close()
        return record


@TRANSFORMS.register_module()
class DecodeRawFrames(Transform):
    """Read the chosen frames of a folder, each distinct one once.

    Raises:
        MissingSample: when called, a frame is missing; says what was looked for and what is there.
        BadSample: when called, a file is no image or breaks off, or the frames differ in size.
    """

    requires = ('path', 'frame_indices', 'filename_tmpl', 'start_index')
    provides = ('frames',)

    def __call__(self, record: Record) -> Record:
        distinct, place = _distinct(record['frame_indices'])
        frames: Frames | None = None
        for number, index in enumerate(distinct.tolist()):
            name = record['filename_tmpl'].format(index + record['start_index'])
            file = os.path.join(record['path'], name)
            if not os.path.isfile(file):
                text = _describe_missing(file, index, record)
                raise MissingSample(text, record['path'], text)
            try:
                image = _read_image(file)
                if frames is None:
                    frames = np.empty((len(distinct), *image.shape), np.uint8)
                if image.shape != frames.shape[1:]:
                    raise ValueError(f'is {image.shape[:2]} (height, width), frames before {frames.shape[1:3]}')
            except (OSError, ValueError, cv2.error) as error:
                reason = f'{file} {describe_error(error)}'
                raise BadSample(reason, record['path'], reason) from error
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=frames[number])
        assert frames is not None, 'there are indices'
        record['frames'] = _arrange(frames, place)  # (V*U*T, H, W, 3)
        return record


def _bad(path: str, reason: str) -> BadSample:
    return BadSample(f'{path} {reason}', path, reason)


def _read_image(file: str) -> Frames:
    """Return an image as BGR.

    Raises:
        ValueError: it is none, or a JPEG that breaks off: OpenCV makes the rest of that gray and keeps quiet.
    """
    with open(file, 'rb') as stream:
        data = stream.read()
    # The last scan starts with FF DA and must be followed by FF D9; neither pair occurs inside a scan.
    if data[:2] == b'\xff\xd8' and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda'):
        raise ValueError(f'is a JPEG of {len(data)} bytes that breaks off')
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ValueError(f'is no image that OpenCV can read ({len(data)} bytes)')
    return image.astype(np.uint8, copy=False)


def _distinct(frame_indices: Indices) -> tuple[Indices, Indices]:
    """Return the distinct indices, ascending, and for each of the V*U*T its place among them."""
    flat = frame_indices.reshape(-1)  # (V*U*T,)
    return np.unique(flat, return_inverse=True)


def _arrange(frames: Frames, place: Indices, are_lent: bool = False) -> Frames:
    """Return the frame of each place (V*U*T,); no copy if every frame is at its place already, and is ours to keep."""
    if not are_lent and np.array_equal(place, np.arange(len(frames))):
        return frames
    return frames[place]


def _describe_missing(file: str, index: int, record: Record) -> str:
    """Say which frame was looked for and what lies in its folder."""
    folder, template, start_index = record['path'], record['filename_tmpl'], record['start_index']
    text = f'no frame {os.path.abspath(file)} (frame {index}, filename_tmpl={template!r}, {start_index=})'
    if not os.path.isdir(folder):
        return f'{text}: there is no such folder'
    names = sorted(os.listdir(folder))
    if not names:
        return f'{text}: the folder is empty'
    text = f'{text}: the folder has {len(names)} files: {", ".join(names[:3])}{", ..." * (len(names) > 3)}'
    for other in (0, 1):
        if other != start_index and names[0] == template.format(other):
            return f'{text}. Is start_index={other}?'
    return text
