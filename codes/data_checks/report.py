"""Findings of the checks, and the report as text and JSON.

A finding is an *error* if a run would fail or be pointless, a *warning* if its results may suffer, and a *note* if it
is only for information.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dsanet.datasets.records import VideoRecord
from dsanet.utils.text import count_noun, printable, printable_lines

LEVELS = ('error', 'warning', 'note')

MAX_EXAMPLES = 5  # in the text of a finding; the JSON file has all


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Args:
        level: 'error', 'warning' or 'note'.
        check: name of the check, such as 'labels'.
        split: such as 'train', or 'train and val'.
        text: one sentence.
        examples: the videos or classes concerned, if any.
    """

    level: str
    check: str
    split: str
    text: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = len(self.examples) - MAX_EXAMPLES
        lines = [
            f'{self.split}: {printable(self.text)}',
            *(f'    {printable(example)}' for example in self.examples[:MAX_EXAMPLES]),
        ]
        return '\n'.join([*lines, *([f'    and {more} more'] if more > 0 else [])])


@dataclass
class Report:
    """Results of all checks.

    Args:
        form: 'quick' or 'full'.
        splits: statistics of each split, for people and JSON.
        findings: sorted, errors first.
        notes: what was not checked completely.
    """

    form: str
    splits: dict[str, dict[str, Any]]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def of_level(self, level: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]

    @property
    def is_fit(self) -> bool:
        return not self.of_level('error')

    @property
    def verdict(self) -> str:
        """Return PASSED or FAILED and the number of findings, such as 'FAILED: 1 error, 2 notes'."""
        counts = [(level, len(self.of_level(level))) for level in LEVELS]
        text = ', '.join(count_noun(n, level) for level, n in counts if n)
        return f'{"PASSED" if self.is_fit else "FAILED"}{f": {text}" if text else ""}'

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, with all examples."""
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
        lines = [f'{self.verdict} ({self.form} check)', '']
        lines += [f'{name:<8}{format_statistics(numbers)}' for name, numbers in self.splits.items()]
        lines += [f'{"":<8}{note}' for note in self.notes]
        for level in LEVELS:
            found = self.of_level(level)
            if found:
                lines += ['', f'{level}s']
                lines += [f'  {line}' for finding in found for line in f'{finding}'.splitlines()]
        return printable_lines('\n'.join(lines))


def format_statistics(numbers: Mapping[str, Any]) -> str:
    """Return the statistics of a split as one line."""
    if 'files' in numbers:
        number = f'{count_noun(numbers["videos"], "sample")} in {count_noun(numbers["files"], "video")}'
    else:
        number = count_noun(numbers['videos'], 'video')
    text = (
        f'{number}, {count_noun(numbers["classes"], "class", "es")}, {_range(*numbers["videos_per_class"])} per class'
    )
    if 'frames' in numbers:
        low, high, median = numbers['frames']
        text += f', {_range(low, high)} frames (median {median:,})'
    if 'seconds' in numbers:
        text += ', {:.1f} to {:.1f} s (median {:.1f})'.format(*numbers['seconds'])
    return f'{text}, decoder {numbers["decoder"]}' if 'decoder' in numbers else text


def _range(low: int, high: int) -> str:
    return f'{low:,}' if low == high else f'{low:,} to {high:,}'


def format_record(record: VideoRecord) -> str:
    """Return list file, line and key of a video."""
    return f'{record.source}: {record.key}'
