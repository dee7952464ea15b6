import logging
import subprocess
from pathlib import Path

import pytest

from dsanet.utils.json_lines import RecordFile, read_json, read_json_lines
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


DAMAGED = [
    b'{"i": 1, "x": "\xff"}',  # not UTF-8
    bytes(40),
    b'{"i": ',
    b'{"j": 1}',
    b'{"i": "1"}',
    b'{"i": null}',
    b'[1]',
    b'7',
    b'null',
    b'[' * 100_000,
    b'{"i": ' + b'1' * 5000 + b'}',
]


@pytest.mark.parametrize('line', DAMAGED)
def test_damaged_line_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes) -> None:
    file = tmp_path / 'r.jsonl'
    file.write_bytes(b'{"i": 0}\n' + line + b'\n{"i": 2}\n\n')
    with caplog.at_level(logging.WARNING, 'dsanet'):
        assert read_json_lines(file, {'i': int}) == [{'i': 0}, {'i': 2}]
    (message,) = caplog.messages
    assert message.endswith(f'{file}: 2')
    RecordFile(file, lambda line: True, {'i': int}).append({'i': 3})
    assert file.read_text() == '{"i": 0}\n{"i": 2}\n{"i": 3}\n'


def test_flipped_bits_never_stop_reading(tmp_path: Path) -> None:
    file = tmp_path / 'r.jsonl'
    data = b'{"i": 0, "x": 0.5}\n{"i": 1, "x": 1e-3}\n'
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        assert all(isinstance(line['i'], int) for line in read_json_lines(file, {'i': int}))


def test_nonfinite_numbers_are_written_as_null(tmp_path: Path) -> None:
    record = RecordFile(tmp_path / 'r.jsonl')
    record.append({'a': float('nan'), 'b': [float('inf'), 1.5], 'c': {'d': float('-inf')}})
    assert record.file.read_text() == '{"a": null, "b": [null, 1.5], "c": {"d": null}}\n'
    record.file.write_text('{"a": NaN}\n')
    assert RecordFile(record.file, lambda line: True).file.read_text() == '{"a": null}\n'


@pytest.mark.parametrize('data', [b'', b'{"a": 1', b'\xff', b'[1]'])
def test_damaged_json_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / 'x.json').write_bytes(data)
    with pytest.raises(ValueError, match=r'x\.json'):
        read_json(tmp_path / 'x.json')
