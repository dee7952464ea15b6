"""Open and decode videos, or read folders of frames.

Video files need two steps, because the sampling of frames between them needs the number of frames: OpenVideo,
SampleSnippets, DecodeVideo. For folders of frames it is known: SampleSnippets, DecodeRawFrames.

An unreadable file raises :class:`BadSample`; an error of the config or the environment does not.
"""

import os
import stat
from collections.abc import Sequence

import cv2
import numpy as np

from dsanet.config.arguments import nearest
from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import BadSample, BadSpan, MissingSample, Record, Transform
from dsanet.datasets.transforms.frame_steps import ClipPlan, DecodingStep
from dsanet.datasets.video.frame_store import Frames, FrameStore, new_array
from dsanet.datasets.video.readers import READERS, VideoReader, first_installed
from dsanet.datasets.video.span_reader import Span, SpanError, open_reader
from dsanet.datasets.video.subprocess_reader import IsolatedReader, can_isolate, shorten_error

# OpenCV before 4.11 cannot read images as RGB; reading them as BGR and converting them gives the same values.
_IMREAD_RGB: int = getattr(cv2, 'IMREAD_COLOR_RGB', 0)


@TRANSFORMS.register_module()
class OpenVideo(Transform):
    """Open a video file and count its frames; those of the span in ``record['span']``, if it is there.

    Args:
        decoder: 'pyav', 'decord', 'opencv', 'torchcodec', or 'auto' for the first one that is installed.
        time_limit: seconds for opening a video, and again for decoding it; a video that takes longer is a bad sample.
            Data workers on Linux enforce it: they decode in a subprocess, so a crash of the decoder is a bad sample,
            too. None for no limit and no subprocess. Other processes decode without a limit.

    Raises:
        BadSample: when called, the file is not a video, has no frames or exceeds the time limit.
        BadSpan: when called, the span is outside of the video or has no frames.
        MissingSample: when called, the file does not exist.
        ValueError: when called, there is a span and the decoder is not 'pyav'.
        ImportError: when called, the decoder's package is missing; with 'auto', at once if no package is installed.
    """

    requires = ('path',)
    provides = ('reader', 'num_frames', 'fps')

    def __init__(self, decoder: str = 'pyav', time_limit: float | None = 60) -> None:
        known = (*READERS, 'auto')
        if decoder not in known:
            raise ValueError(f'unknown decoder={decoder!r}.{nearest(decoder, known)} Allowed: {", ".join(known)}')
        if time_limit is not None and not 0 < time_limit <= 1e6:
            raise ValueError(f'time_limit={time_limit!r} must be a number of seconds in (0, 1e6], or None')
        self.decoder = first_installed() if decoder == 'auto' else decoder
        self.time_limit = time_limit

    def __call__(self, record: Record) -> Record:
        path = record['path']
        span = record.get('span')
        if span is not None and self.decoder != 'pyav':
            raise ValueError(f"decoder={self.decoder!r} cannot read spans of a video; set decoder='pyav'")
        if os.path.isdir(path):
            raise _bad_sample(path, 'is a folder; RawFramesDataset reads folders of frames')
        is_file, problem = _is_file(path)
        if not is_file:
            reason = 'is not a file' if os.path.lexists(path) else 'does not exist'
            raise MissingSample(f'{os.path.abspath(path)} {reason}', path, reason) from problem
        if not os.path.getsize(path):  # decoders report it in various ways
            raise _bad_sample(path, 'is empty')
        try:
            reader = self._open(path, span)
        except SpanError as error:
            raise BadSpan(f'{path}: {error}', path, str(error)) from error
        except ImportError as error:
            others = ' or '.join(repr(name) for name in READERS if name != self.decoder)
            raise ImportError(f'decoder={self.decoder!r} cannot be imported ({error}); use {others}') from error
        except Exception as error:
            raise _bad_sample(path, f'cannot be opened by decoder={self.decoder!r}: {shorten_error(error)}') from error
        if reader.num_frames < 1:
            reader.close()
            raise _bad_sample(path, f'has no frames according to decoder={self.decoder!r}')
        record['reader'] = reader
        record['num_frames'] = reader.num_frames
        record['fps'] = reader.fps
        return record

    def _open(self, path: str, span: Span | None) -> VideoReader:
        if self.time_limit is not None and can_isolate():
            return IsolatedReader(self.decoder, path, self.time_limit, span)
        return open_reader(self.decoder, path, span)


@TRANSFORMS.register_module()
class DecodeVideo(DecodingStep):
    """Decode the sampled frames of the open video, each distinct one once, and close the video.

    Raises:
        BadSample: when called, the frames cannot be decoded.
    """

    requires = ('reader', 'frame_indices')
    provides = ('frames',)
    removes = ('reader',)

    def decode(self, records: Sequence[Record], steps: Sequence[Transform]) -> Sequence[Record]:
        plan = ClipPlan(steps, records)
        indices = plan.indices
        reader = [record.pop('reader') for record in records][0]
        try:
            frames = reader.read(indices, plan) if steps or len(records) > 1 else reader.read(indices)
            if len(frames) != plan.num_results:
                raise ValueError(f'the decoder returned {len(frames)} of {plan.num_results} frames')
            plan.set_frames(frames, reader.reuses_memory)
        except Exception as error:
            if error is plan.error:
                raise
            decoder = getattr(reader, 'decoder', type(reader).__name__)
            reason = (
                f'{decoder} cannot decode {len(indices)} frames from {indices[0]} to {indices[-1]} of '
                f'{reader.num_frames}: {shorten_error(error)}. The file may be damaged'
            )
            raise BadSample(f'{reader.path}: {reason}', reader.path, reason) from error
        finally:
            reader.close()
        return records


@TRANSFORMS.register_module()
class DecodeRawFrames(DecodingStep):
    """Read the sampled frames of a folder, each distinct one once.

    Raises:
        MissingSample: when called, a frame is missing.
        BadSample: when called, a file is not an image or is truncated, or the frames have different sizes.
    """

    requires = ('path', 'frame_indices', 'filename_tmpl', 'start_index')
    provides = ('frames',)

    def decode(self, records: Sequence[Record], steps: Sequence[Transform]) -> Sequence[Record]:
        plan = ClipPlan(steps, records)
        record = records[0]
        store = FrameStore(len(plan.indices), new_array, plan)
        for number, index in enumerate(plan.indices.tolist()):
            name = record['filename_tmpl'].format(index + record['start_index'])
            file = os.path.join(record['path'], name)
            is_file, problem = _is_file(file)
            if not is_file:
                text = _describe_missing_frame(file, index, record)
                raise MissingSample(text, record['path'], text) from problem
            try:
                store.put_whole(number, _read_image(file))
            except (OSError, ValueError, cv2.error) as error:
                if error is plan.error:
                    raise
                reason = f'{file} {shorten_error(error)}'
                raise BadSample(reason, record['path'], reason) from error
        plan.set_frames(store.frames)
        return records


def _bad_sample(path: str, reason: str) -> BadSample:
    return BadSample(f'{path} {reason}', path, reason)


def _read_image(file: str) -> Frames:
    """Return an image as RGB (H, W, 3); raise a ValueError if it is unreadable or truncated."""
    with open(file, 'rb') as stream:
        data = stream.read()
    # OpenCV fills the rest of a truncated JPEG with gray and does not report it. The last scan starts with FF DA and
    # must be followed by FF D9; neither pair occurs inside a scan.
    if data[:2] == b'\xff\xd8' and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda'):
        raise ValueError(f'is a truncated JPEG ({len(data)} bytes)')
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _IMREAD_RGB or cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ValueError(f'is not an image that OpenCV can read ({len(data)} bytes)')
    image = image.astype(np.uint8, copy=False)
    return image if _IMREAD_RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def _is_file(path: str) -> tuple[bool, Exception | None]:
    """Return whether a path is a file, and the error if that is unknown, such as for a disconnected network drive."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode), None
    except (OSError, ValueError) as error:  # ValueError for a null character
        return False, error


def _describe_missing_frame(file: str, index: int, record: Record) -> str:
    folder, template, start_index = record['path'], record['filename_tmpl'], record['start_index']
    text = f'{os.path.abspath(file)} does not exist (frame {index}, filename_tmpl={template!r}, {start_index=})'
    if not os.path.isdir(folder):
        return f'{text}: the folder does not exist'
    names = sorted(os.listdir(folder))
    if not names:
        return f'{text}: the folder is empty'
    text = f'{text}: the folder has {len(names)} files: {", ".join(names[:3])}{", ..." * (len(names) > 3)}'
    for other in (0, 1):
        if other != start_index and names[0] == template.format(other):
            return f'{text}. Did you mean start_index={other}?'
    return text
