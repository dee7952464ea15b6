"""What the checks have to say, for people and for programs.

A finding is an *error* if a run would end in it or be pointless, a *warning* if it would be worse than it could, and a
*note* if it is only good to know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dsanet.datasets.annotation import VideoRecord
from dsanet.utils.text import printable

LEVELS = ('error', 'warning', 'note')

SHOWN = 5  # examples in the text of a finding; the JSON file has all


@dataclass(frozen=True)
class Finding:
    """One thing that a check has to say.

    Args:
        level: 'error', 'warning' or 'note'.
        check: what was checked, such as 'labels'.
        split: such as 'train'; 'train and val' if it is about both.
        text: one sentence.
        examples: each thing that it is about, where there are such things.
    """

    level: str
    check: str
    split: str
    text: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = len(self.examples) - SHOWN
        lines = [f'{self.split}: {self.text}', *(f'    {example}' for example in self.examples[:SHOWN])]
        return '\n'.join([*lines, *([f'    and {more} more'] if more > 0 else [])])


@dataclass
class Report:
    """What all checks together say.

    Args:
        form: 'quick' or 'full'.
        splits: numbers by split, for people and JSON.
        findings: sorted, errors first.
        notes: how thorough the checks were.
    """

    form: str
    splits: dict[str, dict[str, Any]]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def of_level(self, level: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]

    @property
    def is_fit(self) -> bool:
        """Whether there is no error."""
        return not self.of_level('error')

    @property
    def verdict(self) -> str:
        counts = [(level, len(self.of_level(level))) for level in LEVELS]
        said = ', '.join(f'{n} {level}{"s" * (n != 1)}' for level, n in counts if n)
        return f'{"fit" if self.is_fit else "NOT fit"} to train{f": {said}" if said else ""}'

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, with every example."""
        findings = [asdict(finding) for finding in self.findings]
        return {
            'form': self.form,
            'fit': self.is_fit,
            'splits': self.splits,
            'findings': findings,
            'notes': self.notes,
        }

    def text(self) -> str:
        """Return the report for a terminal."""
        lines = [f'{self.verdict} ({self.form} form)', '']
        lines += [f'{name:<8}{describe(numbers)}' for name, numbers in self.splits.items()]
        lines += [f'{"":<8}{note}' for note in self.notes]
        for level in LEVELS:
            found = self.of_level(level)
            if found:
                lines += ['', f'{level}s']
                lines += [f'  {line}' for finding in found for line in f'{finding}'.splitlines()]
        return printable('\n'.join(lines))


def describe(numbers: Mapping[str, Any]) -> str:
    """Return the numbers of a split in a line."""
    what = f'{number_of(numbers["videos"], "video")} of {number_of(numbers["classes"], "class", "es")}'
    text = f'{what}, {_span(*numbers["videos_per_class"])} a class'
    if 'frames' in numbers:
        low, high, median = numbers['frames']
        text += f', {_span(low, high)} frames (median {median:,})'
    if 'seconds' in numbers:
        text += ', {:.1f} to {:.1f} s (median {:.1f})'.format(*numbers['seconds'])
    return f'{text}, decoder {numbers["decoder"]}' if 'decoder' in numbers else text


def _span(low: int, high: int) -> str:
    return f'{low:,}' if low == high else f'{low:,} to {high:,}'


def count_videos(chosen: Sequence[Any]) -> str:
    """Return how many videos these are, in words, such as '1 video'."""
    return number_of(len(chosen), 'video')


def number_of(number: int, noun: str, plural: str = 's') -> str:
    """Return a number and its noun, in the plural unless it is 1."""
    return f'{number:,} {noun}{plural * (number != 1)}'


def name_video(record: VideoRecord) -> str:
    """Return where a video is listed and where it lies, which is how examples name it."""
    return f'{record.source}: {record.path}'
