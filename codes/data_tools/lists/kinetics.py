"""The lists of Kinetics-400, -600, -700 and of Mini-Kinetics-200."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsanet.data_tools.lists.base import SPLITS, Files, ListedVideo, Lists, alphabetical, read_lines, read_rows, refuse
from dsanet.datasets.annotation import VIDEO_EXTENSIONS


@dataclass(frozen=True, slots=True)
class _Clip:
    """A line of a Kinetics csv."""

    label: str
    youtube_id: str
    start: int
    end: int
    source: str


def read_kinetics(files: Files) -> Lists:
    """Read Kinetics-400, -600 or -700: classes in alphabetical order.

    Args:
        files: 'train', 'val', 'test': csv with the columns label, youtube_id, time_start, time_end and, not needed,
            split and is_cc. A test file without labels gives no list.

    Raises:
        ValueError: a wrong line, or one of another split, by file and line.
    """
    notes: list[str] = []
    clips: dict[str, list[_Clip]] = {}
    for split in ('train', 'val', 'test'):
        for file in files.get(split, ()):
            read = _read_clips(file, split)
            if read is None:
                notes.append(f'{file} has no labels: no list of it')
            else:
                clips[split] = read
    return _lists_of_clips(clips, notes)


def _read_clips(file: str, split: str | None) -> list[_Clip] | None:
    """Read a Kinetics csv; None if it has no labels, as those of tests. ``split`` None takes any."""
    expected = 'label,youtube_id,time_start,time_end,split'
    rows = read_rows(file, ',')
    line, header = next(rows, (1, []))
    column = {name.strip(): index for index, name in enumerate(header)}
    if not {'youtube_id', 'time_start', 'time_end'} <= column.keys():
        refuse(file, line, ','.join(header), f'the columns {expected}')
    if 'label' not in column:
        if split != 'test':
            refuse(file, line, ','.join(header), f'the columns {expected}')
        return None
    clips = []
    for line, row in rows:
        text = ','.join(row)
        if len(row) != len(header):
            refuse(file, line, text, f'{len(header)} fields, as {",".join(header)}')
        value = {name: row[index].strip() for name, index in column.items()}
        if not value['label'] or not value['youtube_id']:
            refuse(file, line, text, 'a label and a youtube_id')
        own = SPLITS.get(value.get('split', '').casefold())
        if split is not None and own is not None and own != split:
            refuse(file, line, text, f'a clip for {split}, not for {own}')
        try:
            start, end = int(float(value['time_start'])), int(float(value['time_end']))
        except (OverflowError, ValueError):
            refuse(file, line, text, 'time_start and time_end in seconds')
        clips.append(_Clip(value['label'], value['youtube_id'], start, end, f'{file}:{line}'))
    return clips


def _lists_of_clips(clips: Mapping[str, Sequence[_Clip]], notes: list[str]) -> Lists:
    times = Counter(clip.youtube_id for split in clips.values() for clip in split)
    splits = {split: [_listed_clip(clip, times[clip.youtube_id] == 1) for clip in clips[split]] for split in clips}
    return Lists(alphabetical(splits), splits, notes)


def _listed_clip(clip: _Clip, is_only: bool) -> ListedVideo:
    """Name the files of a clip; a name without times is only clear if no other clip is of the same video."""
    name = f'{clip.youtube_id}_{clip.start:06d}_{clip.end:06d}'
    names = [f'{_folder(clip.label)}/{name}', name]
    if is_only:
        names += [f'{_folder(clip.label)}/{clip.youtube_id}', clip.youtube_id]
    return ListedVideo(tuple(names), (clip.label,), clip.source)


def _folder(label: str) -> str:
    """Return the folder of a class: one folder, whatever the name of the class."""
    return label.replace('/', '_')


def read_mini_kinetics(files: Files) -> Lists:
    """Read Mini-Kinetics-200: classes in alphabetical order.

    Args:
        files: 'train', 'val': the authors' lists with a YouTube id a line; or lines ``class/video.mp4``; or csv as
            those of Kinetics. 'kinetics_train', 'kinetics_val': the csv of Kinetics-400, which tell the class and
            the times of an id; only ids need them.

    Raises:
        ValueError: a wrong line, or an id that is not in Kinetics-400 or means several clips there, by file and line.
    """
    clips: dict[str, list[_Clip]] = {}
    tables: dict[str, list[_Clip]] = {}
    split_of: dict[str, list[ListedVideo]] = {}
    for split in ('train', 'val'):
        for file in files.get(split, ()):
            split_of[split] = []
            if file.lower().endswith('.csv'):
                tables[split] = _read_clips(file, split) or []
                continue
            for line, text in read_lines(file):
                if '/' in text:
                    split_of[split].append(_listed_path(file, line, text))
                    continue
                if not clips:
                    clips = _clips_by_id(files, f'{file}:{line}: {text!r} is a YouTube id alone')
                if text not in clips:
                    refuse(file, line, text, 'a YouTube id of Kinetics-400 or class/video.mp4')
                split_of[split].append(_listed_id(clips[text], f'{file}:{line}'))
    # Together: an id of both splits has two clips.
    split_of |= _lists_of_clips(tables, []).splits
    return Lists(alphabetical(split_of), split_of)


def _listed_path(file: str, line: int, text: str) -> ListedVideo:
    """Read ``class/video.mp4``."""
    folder, _, name = text.rpartition('/')
    label = folder.rpartition('/')[2]
    if not label or not name.lower().endswith(VIDEO_EXTENSIONS):
        refuse(file, line, text, 'class/video.mp4')
    return ListedVideo((f'{label}/{name}', name), (label.replace('_', ' '),), f'{file}:{line}')


def _listed_id(clips: Sequence[_Clip], source: str) -> ListedVideo:
    """Name the files of an id, which must mean one clip: it tells neither class nor times."""
    first = clips[0]
    for clip in clips:
        if (clip.label, clip.start, clip.end) != (first.label, first.start, first.end):
            raise ValueError(
                f'{source}: id {first.youtube_id} may be {_describe(first)} or {_describe(clip)}; leave the wrong line '
                'out of the csv files'
            )
    return ListedVideo(_listed_clip(first, is_only=True).names, (first.label,), source)


def _describe(clip: _Clip) -> str:
    return f'{clip.label!r} from {clip.start} to {clip.end} s ({clip.source})'


def _clips_by_id(files: Files, why: str) -> dict[str, list[_Clip]]:
    """Read which clips of Kinetics-400 an id may be."""
    sources = [file for role in ('kinetics_train', 'kinetics_val') for file in files.get(role, ())]
    if not sources:
        raise ValueError(
            f'{why}; its class stands in the csv files of Kinetics-400: '
            '--file kinetics_train=FILE --file kinetics_val=FILE'
        )
    clips: dict[str, list[_Clip]] = defaultdict(list)
    for file in sources:
        for clip in _read_clips(file, None) or ():
            clips[clip.youtube_id].append(clip)
    return clips
