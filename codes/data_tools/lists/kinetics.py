"""The lists of Kinetics-400, -600, -700 and of Mini-Kinetics-200."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dsanet.data_tools.lists.base import (
    SPLITS,
    Files,
    ListedVideo,
    Lists,
    csv_rows,
    numbered_lines,
    raise_bad_line,
    sorted_classes,
)


@dataclass(frozen=True, slots=True)
class _Clip:
    """A row of a Kinetics CSV file."""

    label: str
    youtube_id: str
    start: int
    end: int
    source: str

    def __str__(self) -> str:
        return f'{self.label!r} from {self.start} to {self.end} s ({self.source})'


def read_kinetics(files: Files) -> Lists:
    """Read Kinetics-400, -600 or -700, with classes in alphabetical order.

    Args:
        files: 'train', 'val', 'test': CSV with the columns label, youtube_id, time_start, time_end and, optionally,
            split and is_cc. No list is built from a test file without labels.
    """
    notes: list[str] = []
    clips: dict[str, list[_Clip]] = {}
    for split in ('train', 'val', 'test'):
        for file in files.get(split, ()):
            read = _read_clips(file, split)
            if read is None:
                notes.append(f'skipped {file}, which has no labels')
            else:
                clips[split] = read
    counts = Counter(clip.youtube_id for split in clips.values() for clip in split)
    splits = {split: [_listed_clip(clip, counts[clip.youtube_id] == 1) for clip in clips[split]] for split in clips}
    return Lists(sorted_classes(splits), splits, notes)


def _read_clips(file: str, split: str | None) -> list[_Clip] | None:
    """Read a Kinetics CSV file; None if it has no labels. ``split`` None accepts clips of any split."""
    expected = 'the columns label,youtube_id,time_start,time_end,split'
    rows = csv_rows(file, ',')
    line, header = next(rows, (1, []))
    column = {name.strip(): index for index, name in enumerate(header)}
    if not {'youtube_id', 'time_start', 'time_end'} <= column.keys():
        raise_bad_line(file, line, ','.join(header), expected)
    if 'label' not in column:
        if split != 'test':
            raise_bad_line(file, line, ','.join(header), expected)
        return None
    clips = []
    for line, row in rows:
        text = ','.join(row)
        if len(row) != len(header):
            raise_bad_line(file, line, text, f'{len(header)} fields: {",".join(header)}')
        value = {name: row[index].strip() for name, index in column.items()}
        if not value['label'] or not value['youtube_id']:
            raise_bad_line(file, line, text, 'a label and a youtube_id')
        row_split = SPLITS.get(value.get('split', '').casefold())
        if split is not None and row_split is not None and row_split != split:
            raise_bad_line(file, line, text, f'a clip of split {split}, not {row_split}')
        try:
            start, end = int(float(value['time_start'])), int(float(value['time_end']))
        except (OverflowError, ValueError):
            raise_bad_line(file, line, text, 'time_start and time_end in seconds')
        clips.append(_Clip(value['label'], value['youtube_id'], start, end, f'{file}:{line}'))
    return clips


def _listed_clip(clip: _Clip, is_unique: bool) -> ListedVideo:
    """Return the possible file names of a clip; names without times only if it is the only clip of its video."""
    folder = clip.label.replace('/', '_')
    name = f'{clip.youtube_id}_{clip.start:06d}_{clip.end:06d}'
    names = [f'{folder}/{name}', name]
    if is_unique:
        names += [f'{folder}/{clip.youtube_id}', clip.youtube_id]
    return ListedVideo(tuple(names), (clip.label,), clip.source)


def read_mini_kinetics(files: Files) -> Lists:
    """Read Mini-Kinetics-200, with classes in alphabetical order.

    Args:
        files: 'train', 'val': the authors' lists with one YouTube ID per line. 'kinetics_train', 'kinetics_val': the
            CSV files of Kinetics-400, which have class and times of each ID.
    """
    clips: dict[str, list[_Clip]] = defaultdict(list)
    for role in ('kinetics_train', 'kinetics_val'):
        for clip in _read_clips(files[role][0], None) or ():
            clips[clip.youtube_id].append(clip)
    splits: dict[str, list[ListedVideo]] = {}
    for split in ('train', 'val'):
        for file in files.get(split, ()):
            splits[split] = []
            for line, text in numbered_lines(file):
                if text not in clips:
                    raise_bad_line(file, line, text, 'a YouTube ID of Kinetics-400')
                splits[split].append(_listed_id(clips[text], f'{file}:{line}'))
    return Lists(sorted_classes(splits), splits)


def _listed_id(clips: Sequence[_Clip], source: str) -> ListedVideo:
    """Return the clip of an ID; an ID with several different clips is an error."""
    first = clips[0]
    for clip in clips:
        if (clip.label, clip.start, clip.end) != (first.label, first.start, first.end):
            raise ValueError(
                f'{source}: ID {first.youtube_id} is ambiguous: {first} or {clip}; remove the wrong line from the CSV'
            )
    return ListedVideo(_listed_clip(first, is_unique=True).names, (first.label,), source)
