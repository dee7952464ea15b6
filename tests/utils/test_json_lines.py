import logging
import subprocess
from pathlib import Path

import pytest

from dsanet.utils.json_lines import RecordFile, read_json_lines
from tests.engine.test_checkpointing import small_disk  # noqa: F401


def test_record_filters_lines_and_survives_truncation(tmp_path: Path) -> None:
    file = tmp_path / 'r.jsonl'
    record = RecordFile(file)
    assert not file.exists()
    for i in range(3):
        record.append({'i': i})
    with file.open('a') as stream:
        stream.write('{"i": ')
    again = RecordFile(file, lambda line: line['i'] != 1)
    again.append({'i': 7})
    assert file.read_text() == '{"i": 0}\n{"i": 2}\n{"i": 7}\n'


def test_full_disk_loses_lines_and_warns_once(
    small_disk: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    record = RecordFile(small_disk / 'r.jsonl')
    record.append({'i': 0})
    others = small_disk / 'others'
    subprocess.run(['dd', 'if=/dev/zero', f'of={others}'], capture_output=True, check=False)
    for i in (1, 2):
        record.append({'i': i, 'long': 'x' * 5000})  # a part fits into the current block
    record.rewrite([{'i': 9}])
    assert sum('No space left' in message for message in caplog.messages) == 1
    others.unlink()
    record.append({'i': 3})
    assert [line['i'] for line in read_json_lines(record.file)] == [0, 3]
