"""Read videos with PyAV, the default: all formats of FFmpeg, and the frames that the ffmpeg command outputs."""

from bisect import bisect_left
from collections.abc import Iterator, Set
from typing import Any

import numpy as np

from dsanet.datasets.video.frame_index import count_frames, index_frames, read_ticks
from dsanet.datasets.video.frame_store import Frames, FrameStore, PlanClips
from dsanet.datasets.video.opening import decode_all, frame_rate, open_video
from dsanet.datasets.video.picture import FrameConverter
from dsanet.datasets.video.readers import FrameTimes, Indices, VideoReader, register_reader
from dsanet.datasets.video.remembered import remember

# How many frames, starting with the first reordered one, are decoded once per file to confirm their order.
_NUM_CONFIRMED = 4


class _InexactSeekError(Exception):
    """A seek did not lead to the expected frames."""


@register_reader('pyav')
class PyAVReader(VideoReader):
    """FFmpeg through PyAV: reads all formats of FFmpeg, and applies the display matrix.

    It seeks where the packets of a file say when each frame is shown and the decoder confirms it. Otherwise, all frames
    are decoded from the beginning, and counted in this way once per process and file. Frames of other sizes are
    resized to the size of the first one. (In a damaged file, pixels after a seek may differ from those of FFmpeg, which
    fills damaged areas from the frames before.)

    It is the fastest decoder for an MP4 with only key frames (``dsanet transcode``): it reads only the requested
    frames of the file.

    Attributes:
        index: when frames are shown; None if the frames are known only from decoding.
    """

    package = 'av'

    def __init__(self, path: str) -> None:
        self.path = path
        self._container, self._stream = open_video(path)
        try:
            self._size = (self._stream.width, self._stream.height)
            self.fps = self._find_fps()
            self.index = index_frames(self._container, self._stream, path)
            if self.index is not None and self.index.first_reordered is not None:
                if not remember('order', path, self._shows_in_order):
                    self.index = None
            self.num_frames = count_frames(path) if self.index is None else len(self.index.times)
        except BaseException:
            self.close()
            raise

    def _find_fps(self) -> float | None:
        rate = frame_rate(self._container, self._stream)
        return None if rate is None else float(rate)

    def _find_times(self) -> FrameTimes:
        """Return the times in the index; those of all decoded frames without one; of a constant rate if there are none.

        Times of AVI and of damaged files may be missing or decrease.
        """
        try:
            ticks = np.array(self._find_ticks())
        except ValueError:
            return super()._find_times()
        return (ticks - ticks[0]) * float(self._stream.time_base)

    def _find_ticks(self) -> list[int]:
        """Return when each frame is shown, in units of the time base of the stream."""
        if self.index is not None:
            return self.index.times
        return remember('times of the frames', self.path, lambda: read_ticks(self.path)).tolist()

    def _read(self, indices: Indices) -> Frames:
        return self._collect(indices, None)

    def _read_clips(self, indices: Indices, plan: PlanClips) -> Frames:
        return self._collect(indices, plan)

    def _collect(self, indices: Indices, plan: PlanClips | None) -> Frames:
        store = FrameStore(len(indices), self.allocate, plan)
        for skips in (True, False) if self._can_skip() else (False,):
            if self.index is not None:
                try:
                    return self._store(self._decode_with_seek(indices, skips), store)
                except _InexactSeekError:
                    pass
        return self._store(self._decode_from_start(indices), store)

    def confirms(self, indices: Indices) -> bool:
        """Return True if the decoder finds these frames by seeking; for readers that cannot check this themselves."""
        try:
            return all(True for _ in self._decode_with_seek(indices))
        except _InexactSeekError:
            return False

    def _shows_in_order(self) -> bool:
        """Return True if the decoder's order agrees with the times; with wrong ones, it would not be FFmpeg's."""
        assert self.index is not None, 'there are times'
        assert self.index.first_reordered is not None, 'there are reordered frames'
        first = self.index.first_reordered
        last = min(first + _NUM_CONFIRMED, len(self.index.times))
        return self.confirms(np.arange(max(0, first - 1), last))

    def read_one_by_one(self, indices: Indices) -> Iterator[Frames]:
        """Yield frames (H, W, 3) in constant memory, decoding no frame of the file twice; for many frames of a film.

        Args:
            indices: as for :meth:`read`.

        Raises:
            ValueError: while iterating, a frame cannot be decoded.
        """
        num_read = 0
        if self.index is not None:
            try:
                for image in self._to_images(self._decode_with_seek(indices)):
                    yield image
                    num_read += 1
                return
            except _InexactSeekError:  # the remaining frames are found by decoding the file again
                pass
        if num_read < len(indices):
            yield from self._to_images(self._decode_from_start(indices[num_read:]))

    def _can_skip(self) -> bool:
        """Return True if there may be B-frames on which no other frame depends, which H.264 marks."""
        has_b_frames = self.index is not None and self.index.first_reordered is not None
        return has_b_frames and self._stream.codec_context.codec.canonical_name == 'h264'

    def _store(self, frames: Iterator[Any], store: FrameStore) -> Frames:
        convert = FrameConverter()
        for position, frame in enumerate(frames):
            convert.size = self._first_size(frame)
            box = store.region(*convert.upright_size(frame))
            store.put(position, convert(frame, box))
        return store.frames  # (len, H, W, 3)

    def _to_images(self, frames: Iterator[Any]) -> Iterator[Frames]:
        """Yield the upright RGB image (H, W, 3) of each frame."""
        convert = FrameConverter()
        for frame in frames:
            convert.size = self._first_size(frame)
            yield convert(frame)

    def _first_size(self, frame: Any) -> tuple[int, int]:
        """Return the (width, height) of the first frame of the file, to which a frame is resized."""
        if (frame.width, frame.height) != self._size:
            # Either the size changes, or it is not the one in the header.
            container, stream = open_video(self.path)
            with container:
                first = next(decode_all(container, stream))
                self._size = (first.width, first.height)
        return self._size

    def _decode_from_start(self, indices: Indices) -> Iterator[Any]:
        """Yield the requested frames, decoding from the beginning."""
        self.close()
        self._container, self._stream = open_video(self.path)
        requested = set(indices.tolist())
        num_decoded = 0
        for frame in decode_all(self._container, self._stream):
            if self.index is not None and frame.pts != self.index.times[min(num_decoded, self.num_frames - 1)]:
                break
            if num_decoded in requested:
                yield frame
            num_decoded += 1
            if self.index is None and num_decoded > indices[-1]:
                return
        if num_decoded != self.num_frames:
            raise ValueError(f'only the first {num_decoded} of {self.num_frames} frames can be decoded without gaps')

    def _decode_with_seek(self, indices: Indices, skips: bool = False) -> Iterator[Any]:
        """Yield the requested frames, seeking to a key frame where that skips frames.

        Args:
            indices: the frames.
            skips: let the decoder skip frames between them on which no frame depends.
        """
        import av

        assert self.index is not None, 'seeking requires an index'
        times, key_times = self.index.times, self.index.key_times
        needed = {times[index] for index in indices} if skips else None
        next_time: int | None = None  # time of the frame that the decoder returns next
        frames: Iterator[Any] = iter(())
        for index in indices:
            time = times[index]
            key_time = int(key_times[key_times.searchsorted(time, 'right') - 1])  # the last one that is not later
            if next_time is None or key_time > next_time:
                try:
                    self._container.seek(key_time, stream=self._stream)
                except av.error.FFmpegError as error:
                    raise _InexactSeekError('FFmpeg reports an error') from error
                frames = self._decode_from_key_frame(key_time, needed)
            try:
                frame = next((frame for frame in frames if frame.pts >= time), None)
            except av.error.FFmpegError as error:
                raise _InexactSeekError('FFmpeg reports an error') from error
            if frame is None or frame.pts != time:
                raise _InexactSeekError(f'no frame at {time}')
            next_time = times[min(index + 1, len(times) - 1)]
            yield frame

    def _decode_from_key_frame(self, key_time: int, needed: Set[int] | None) -> Iterator[Any]:
        """Yield the frames from a key frame that the decoder confirms, in the order of their times."""
        assert self.index is not None, 'key frames are known'
        previous: int | None = None
        times = self.index.times
        is_hidden = times[bisect_left(times, key_time)] != key_time
        for frame in decode_all(self._container, self._stream, strict=True, needed=needed):
            if frame.pts is None:
                raise _InexactSeekError('a frame has no time')
            if previous is None and frame.pts < key_time:
                continue  # shown before the key frame; it may depend on earlier frames
            if previous is not None:
                is_confirmed = frame.pts > previous
            else:
                is_confirmed = is_hidden or (frame.key_frame and frame.pts == key_time)
            if not is_confirmed or frame.is_corrupt or frame.interlaced_frame:
                raise _InexactSeekError(f'not the expected frame at {frame.pts}')
            previous = frame.pts
            yield frame

    def close(self) -> None:
        self._container.close()
