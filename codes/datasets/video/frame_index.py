"""Find out when each frame of a video is shown, or how many frames it has, without decoding where possible."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dsanet.datasets.video.index_files import load_arrays, save_arrays
from dsanet.datasets.video.opening import decode_all, open_video, stores_frame_times
from dsanet.datasets.video.remembered import remember

# A decoder delays a frame by at most this many.
MAX_DELAY = 16
# Packets of this size or less are not frames in MPEG-4, but repeat the previous one.
_MAX_EMPTY_BYTES = 16
_LONG_US = 60_000_000  # microseconds


class FrameIndex(NamedTuple):
    """The frames of a video, in the order in which they are shown.

    Attributes:
        times: when frame i is shown, in units of the time base of the stream.
        key_times: the same for the key frames.
        has_open_gops: whether frames that are stored after a key frame are shown before it, common in H.265.
        has_hidden: whether there are frames that are stored but not shown, as in files cut without reencoding.
        first_reordered: position of the first frame that may be shown before an earlier one in the file; None without
            B-frames.
    """

    times: list[int]
    key_times: npt.NDArray[np.int64]
    has_open_gops: bool = False
    has_hidden: bool = False
    first_reordered: int | None = None


class _PackedIndex(NamedTuple):
    """A :class:`FrameIndex` in 4 bytes per frame.

    Attributes:
        first: time of the first frame.
        steps: differences of the times.
        key_times: see :class:`FrameIndex`.
        flags: the remaining attributes; -1 for None.
    """

    first: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    key_times: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]

    @classmethod
    def pack(cls, index: FrameIndex) -> '_PackedIndex':
        steps = np.diff(index.times)
        if np.array_equal(steps.astype(np.int32), steps):
            steps = steps.astype(np.int32)
        reordered = -1 if index.first_reordered is None else index.first_reordered
        flags = np.array([index.has_open_gops, index.has_hidden, reordered])
        return cls(np.array(index.times[0]), steps, index.key_times, flags)

    def unpack(self) -> FrameIndex:
        has_open_gops, has_hidden, reordered = self.flags.tolist()
        times = (self.first + np.append(0, np.cumsum(self.steps, dtype=np.int64))).tolist()
        first_reordered = None if reordered < 0 else reordered
        return FrameIndex(times, self.key_times, bool(has_open_gops), bool(has_hidden), first_reordered)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)


class _Packet(NamedTuple):
    time: int
    is_key: bool
    is_shown: bool


def index_frames(container: Any, stream: Any, path: str) -> FrameIndex | None:
    """Return the index of a video, from its packets; None if the frames are known only after decoding.

    It is reliable in MP4/MOV, Matroska/WebM and FLV, if the video begins with a key frame, no packet is damaged, and
    each packet has one frame and its own time. For an MP4 with only key frames, the index of the file is sufficient.
    The index of a long video is remembered, because all of its packets are read to find it.
    """
    if not stores_frame_times(container) or _is_interlaced(stream):
        return None
    if (container.duration or 0) < _LONG_US:
        return _find_index(container, stream, path)

    def find() -> _PackedIndex | None:
        saved = load_arrays(path)
        if saved is not None and saved.keys() == set(_PackedIndex._fields):
            return _PackedIndex(**saved)
        index = _find_index(container, stream, path)
        if index is None:
            return None
        packed = _PackedIndex.pack(index)
        save_arrays(path, packed._asdict())
        return packed

    packed = remember('index of frames', path, find)
    return None if packed is None else packed.unpack()


def _find_index(container: Any, stream: Any, path: str) -> FrameIndex | None:
    packets = _read_key_frame_index(stream, path) or _read_packets(container, stream)
    if not packets or not packets[0].is_key:
        return None
    index = _make_index(packets, stream)
    return None if index is None or index.times[0] < packets[0].time else index


def index_span(container: Any, stream: Any, first: int, start: int, end: int | None) -> FrameIndex | None:
    """Return the index of a part of a video, without reading the rest of the file.

    It begins with a key frame at or before ``start``. It is reliable under the conditions of :func:`index_frames`.

    Args:
        container, stream: from :func:`open_video`.
        first: when the first frame of the video is shown, in units of the time base of the stream.
        start: when the part starts.
        end: when it ends; None for the end of the video.
    """
    if not stores_frame_times(container) or _is_interlaced(stream) or not _seek_before(container, stream, first, start):
        return None
    packets = _read_packets(container, stream, end)
    # Frames that are stored after the key frame but shown before it may depend on earlier frames.
    packets = [one for one in packets if packets[0].time <= one.time and (end is None or one.time < end)]
    return _make_index(packets, stream)


def _make_index(packets: Sequence[_Packet], stream: Any) -> FrameIndex | None:
    """Return the index of packets in the order of the file; None if their times are ambiguous."""
    shown = [packet.time for packet in packets if packet.is_shown]
    times = sorted(shown)
    if len(set(times)) < len(times) or not times:
        return None
    position = {time: number for number, time in enumerate(times)}
    delays = [position[time] - number for number, time in enumerate(shown)]
    if max(delays) > MAX_DELAY:
        return None
    first_reordered = next((position[time] for time, delay in zip(shown, delays, strict=True) if delay < 0), None)
    if first_reordered is None and stream.codec_context.has_b_frames:
        first_reordered = 0
    has_open_gops, key_time = False, packets[0].time
    for packet in packets:
        has_open_gops |= packet.time < key_time
        key_time = packet.time if packet.is_key else key_time
    key_times = np.array(sorted(packet.time for packet in packets if packet.is_key))
    return FrameIndex(times, key_times, has_open_gops, len(shown) < len(packets), first_reordered)


def count_frames(path: str) -> int:
    """Return the number of frames that can be decoded."""
    return remember('number of frames', path, lambda: _count_frames(path))


def _count_frames(path: str) -> int:
    container, stream = open_video(path)
    with container:
        stream.codec_context.options = {'skip_loop_filter': 'all'}  # pixel values are not needed
        return sum(1 for _ in decode_all(container, stream))


def timed_frames(container: Any, stream: Any, end: int | None = None) -> Iterator[tuple[int, Any]]:
    """Yield the frames of a video before ``end`` and when they are shown, decoding from the beginning."""
    hint = 'convert the file with dsanet transcode to use spans of it'
    # AVI stores when frames are decoded; FFmpeg guesses when those of H.264 are shown.
    if 'avi' in container.format.name.split(',') and stream.codec_context.has_b_frames:
        raise ValueError(f'AVI does not store when B-frames are shown; {hint}')
    previous: int | None = None
    num_later = 0
    for frame in decode_all(container, stream):
        time = frame.pts
        if time is None or (previous is not None and time < previous):
            problem = 'are missing' if time is None else 'decrease'
            raise ValueError(f'the times of its frames {problem}; {hint}')
        previous = time
        if end is None or time < end:
            yield time, frame
        elif num_later == MAX_DELAY:
            return
        else:
            num_later += 1  # a frame before the end may follow if the times are wrong


def read_ticks(path: str, start: int | None = None, end: int | None = None) -> npt.NDArray[np.int64]:
    """Return when each frame from ``start`` until before ``end`` is shown, decoding the video from the beginning.

    Args:
        path: the file.
        start, end: in units of the time base of the stream, as the result; None for those of the video.

    Raises:
        ValueError: the file does not say when its frames are shown.
    """
    container, stream = open_video(path)
    with container:
        stream.codec_context.options = {'skip_loop_filter': 'all'}  # pixel values are not needed
        ticks = np.array([time for time, _ in timed_frames(container, stream, end)], np.int64)
    return ticks if start is None else ticks[ticks >= start]


def _is_interlaced(stream: Any) -> bool:
    """Return True if each packet may be a field, half of a frame."""
    order = getattr(stream.codec_context, 'field_order', None)  # PyAV before 18 does not say
    return order is not None and order not in (0, 1)  # unknown, progressive


def _seek_before(container: Any, stream: Any, first: int, time: int) -> bool:
    """Seek to a key frame that is shown at or before a time; return False if there is none."""
    import av

    second = round(1 / stream.time_base)
    back = 0
    while True:
        # Containers find a key frame by the time at which it is decoded, which may be earlier than it is shown.
        target = max(first, time - back)
        try:
            container.seek(target, stream=stream)
            packet = next((packet for packet in container.demux(stream) if packet.size), None)
            if packet is not None and packet.is_keyframe and packet.pts is not None and packet.pts <= time:
                container.seek(target, stream=stream)
                return True
        except av.error.FFmpegError:
            return False
        if target == first:
            return False
        back = max(2 * back, second)


def _read_packets(container: Any, stream: Any, end: int | None = None) -> list[_Packet]:
    """Return the packets; [] if one is damaged, has no time or may not be one frame.

    Stop when no frame that is shown before ``end`` can follow; None for the end of the file.
    """
    codec = stream.codec_context.codec
    name = codec.canonical_name
    if name not in ('h264', 'hevc', 'av1', 'vp8', 'vp9', 'mpeg4') and not codec.intra_only:
        return []
    packets = []
    num_later = 0
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.is_corrupt or packet.pts is None or (name == 'mpeg4' and not _is_one_frame(packet)):
            return []
        is_shown = not packet.is_discard and not (name in ('vp8', 'vp9') and _is_reference_only(name, packet))
        packets.append(_Packet(packet.pts, packet.is_keyframe, is_shown))
        num_later = num_later + 1 if end is not None and packet.pts >= end else 0
        if num_later > MAX_DELAY:
            break
    return packets


def _is_one_frame(packet: Any) -> bool:
    """Return False for MPEG-4 packets with two frames, and those that repeat the previous frame."""
    return packet.size > _MAX_EMPTY_BYTES and bytes(packet).count(b'\0\0\1\xb6') == 1


def _is_reference_only(codec: str, packet: Any) -> bool:
    """Return True for a packet whose frame is not shown, but used by later frames of VP8 or VP9."""
    data = memoryview(packet)
    first, last = data[0], data[-1]
    if codec == 'vp8':
        return not first >> 4 & 1
    if last >> 5 == 0b110:  # several frames, one of which is shown
        return False
    bits = first << 1 if first >> 4 & 3 == 3 else first  # profile 3 has one more bit before
    return not bits >> 3 & 1 and not bits >> 1 & 1  # shows neither an earlier frame nor itself


def _read_key_frame_index(stream: Any, path: str) -> list[_Packet]:
    """Return the packets of an MP4 with only key frames, from its index, without reading the file; [] for other files.

    The index has decoding times. They equal the presentation times if no frame waits for a later one, as is the
    case for key frames, and if the first frame is shown when it is decoded.
    """
    entries = list(stream.index_entries)
    # Only MP4 has the number of frames in the header and an index entry for each.
    if not entries or len(entries) != stream.frames or stream.codec_context.has_b_frames:
        return []
    if stream.start_time != entries[0].timestamp:
        return []
    length = os.path.getsize(path)
    if not all(entry.is_keyframe and not entry.is_discard and entry.pos + entry.size <= length for entry in entries):
        return []
    return [_Packet(entry.timestamp, True, True) for entry in entries]
