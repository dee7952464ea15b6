"""From a path and frame indices to frames.

Video files are opened in one step and decoded in another, because choosing frames needs their number first:
OpenVideo, SampleSnippets, DecodeVideo. Folders of frames know their number: SampleSnippets, DecodeRawFrames.
"""

import os

import cv2
import numpy as np

from codes.datasets.transforms.base import Record, Transform
from codes.datasets.transforms.video_readers import READERS, Frames, Indices
from codes.registry import TRANSFORMS, nearest


@TRANSFORMS.register_module()
class OpenVideo(Transform):
    """Open a video file and count its frames.

    Args:
        decoder: 'decord' (fast), 'pyav' (reads everything that FFmpeg reads) or 'opencv'.

    Raises:
        ValueError: an unknown decoder; when called, a file that is no video or has no frames.
        FileNotFoundError: when called, there is no such file.
        ImportError: when called, the decoder's package is missing.
    """

    needs = ('path',)
    gives = ('reader', 'num_frames')

    def __init__(self, decoder: str = 'decord') -> None:
        if decoder not in READERS:
            raise ValueError(f'unknown decoder={decoder!r}.{nearest(decoder, READERS)} Known: {", ".join(READERS)}')
        self.decoder = decoder

    def __call__(self, record: Record) -> Record:
        path = record['path']
        if os.path.isdir(path):
            raise ValueError(f'{path} is a folder; RawFramesDataset reads folders of frames')
        if not os.path.isfile(path):
            raise FileNotFoundError(f'no video {os.path.abspath(path)}')
        try:
            reader = READERS[self.decoder](path)
        except ImportError as error:
            others = ' or '.join(repr(name) for name in READERS if name != self.decoder)
            raise ImportError(f'decoder={self.decoder!r} cannot be imported ({error}); try {others}') from error
        except Exception as error:
            raise ValueError(f'{path} cannot be opened with decoder={self.decoder!r}: {error}') from error
        if reader.num_frames < 1:
            reader.close()
            raise ValueError(f'{path} has no frames, says decoder={self.decoder!r}')
        record['reader'] = reader
        record['num_frames'] = reader.num_frames
        return record


@TRANSFORMS.register_module()
class DecodeVideo(Transform):
    """Decode the chosen frames of the open video, each distinct one once, and close it.

    Raises:
        RuntimeError: the decoder fails; names the file and the frames.
    """

    needs = ('reader', 'frame_indices')
    gives = ('frames',)
    removes = ('reader',)

    def __call__(self, record: Record) -> Record:
        distinct, place = _distinct(record['frame_indices'])
        reader = record.pop('reader')
        try:
            frames = reader.read(distinct)
        except Exception as error:
            raise RuntimeError(
                f'{reader.path}: {type(reader).__name__} cannot decode {len(distinct)} frames from '
                f'{distinct[0]} to {distinct[-1]} of {reader.num_frames}: {error}. '
                'Another decoder may; else the file is damaged'
            ) from error
        finally:
            reader.close()
        record['frames'] = frames[place]
        return record


@TRANSFORMS.register_module()
class DecodeRawFrames(Transform):
    """Read the chosen frames of a folder, each distinct one once.

    Raises:
        FileNotFoundError: when called, a frame is missing; says what was looked for and what is there.
        ValueError: when called, a file is no image, or the frames differ in size.
    """

    needs = ('path', 'frame_indices', 'filename_tmpl', 'start_index')
    gives = ('frames',)

    def __call__(self, record: Record) -> Record:
        distinct, place = _distinct(record['frame_indices'])
        images: list[Frames] = []
        for index in distinct.tolist():
            file = os.path.join(record['path'], record['filename_tmpl'].format(index + record['start_index']))
            if not os.path.isfile(file):
                raise FileNotFoundError(_describe_missing(file, index, record))
            image = cv2.imread(file)
            if image is None:
                raise ValueError(f'{file} is no image that OpenCV can read')
            if images and image.shape != images[0].shape:
                raise ValueError(f'{file} is {image.shape[:2]} (height, width), frames before {images[0].shape[:2]}')
            images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
        record['frames'] = np.stack(images)[place]  # (V*U*T, H, W, 3)
        return record


def _distinct(frame_indices: Indices) -> tuple[Indices, Indices]:
    """Return the distinct indices, ascending, and for each of the V*U*T its place among them."""
    flat = frame_indices.reshape(-1)  # (V*U*T,)
    return np.unique(flat, return_inverse=True)


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
