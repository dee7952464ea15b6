"""Splits, and inspection results of their files, for the tests of the checks."""

import re
from collections.abc import Iterable

from dsanet.data_checks.probe import ProbeResult, ProbeTask
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from tests.engine.conftest import data  # noqa: F401


def records(labels: list[int], name: str = 'train', num_frames: int | None = None) -> list[VideoRecord]:
    return [VideoRecord(f'{name}/{i}.mp4', (k,), f'{name}.txt', i + 1, num_frames) for i, k in enumerate(labels)]


def split(labels: list[int], name: str = 'train', num_classes: int | None = 3, **options: object) -> Split:
    return Split(name, records(labels, name), num_classes, **options)


def numbers(text: str) -> list[str]:
    return re.findall(r'\d+(?:\.\d+)?', text)


def findings(check: Iterable[Finding]) -> list[tuple[str, str, list[str]]]:
    """Return level, check and the numbers in the text of each finding."""
    return [(finding.level, finding.check, numbers(finding.text)) for finding in check]


def facts(split: Split, **changes: dict) -> dict[ProbeTask, ProbeResult]:
    """Return equal results for all videos of a split, with ``changes`` for video ``v<number>``."""
    usual = {'num_frames': 50, 'height': 240, 'width': 320, 'fps': 25.0}
    return {
        split.probe_task(record): ProbeResult(record.path, **{**usual, **changes.get(f'v{i}', {})})
        for i, record in enumerate(split.records)
    }
