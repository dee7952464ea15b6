"""Usual lines, which are read by NumPy, and all others give the same records as a slow loop over the lines."""

import random

import pytest

from dsanet.datasets import list_columns, text_lists
from dsanet.datasets.annotation import parse_list_file

PIECES = ['a', 'b.mp4', '7', '12', '0', '123456789', '1234567890', '3,17', ',', '3,3', 'é', '視', '#', '/', '\udcdf']
GAPS = [' ', ' ', ' ', '\t', '  ', '\u00a0', '\u3000', '\u2003', '\x85', '\x1f', '\u180e', '', '\v']
ENDS = ['\n', '\n', '\n', '\r\n', '\r', '\n\n', ' \n']


def random_text(rng, number):
    """Return lines of all kinds, most of them usual."""
    lines = []
    for _ in range(number):
        if rng.random() < 0.6:
            lines.append(f'dir {rng.randrange(99)}/{rng.choice(PIECES)} {rng.choice(["4", "4 31", "10 2,5"])}')
        else:
            lines.append(''.join(rng.choice(PIECES) + rng.choice(GAPS) for _ in range(rng.randint(0, 4))))
    return ''.join(line + rng.choice(ENDS) for line in lines)


def is_number(text):
    return text.isascii() and text.isdigit() and len(text) <= 9


def slow_records(text, with_num_frames):
    """Parse each line by itself; yield its number, path, number of frames and labels, or None if it is malformed."""
    for number, line in enumerate(text.replace('\r\n', '\n').replace('\r', '\n').split('\n'), start=1):
        fields = line.strip().rsplit(maxsplit=1 + with_num_frames)
        if not fields or fields[0][0] == '#':
            continue
        labels = fields[-1].split(',')
        numbers = [*labels, *fields[1:-1]]
        is_good = len(fields) == 2 + with_num_frames and all(map(is_number, numbers))
        is_good = is_good and len({int(label) for label in labels}) == len(labels)
        is_good = is_good and not (with_num_frames and int(fields[1]) == 0)
        words = fields[0].split()
        is_rest_of_labels = len(words[-1]) > 1 and words[-1][-1] == ',' and not words[-1].strip('0123456789,')
        is_good = is_good and not (len(words) > 1 and is_rest_of_labels)
        frames = int(fields[1]) if is_good and with_num_frames else None
        yield number, (fields[0], frames, tuple(map(int, labels))) if is_good else None


@pytest.mark.parametrize('with_num_frames', [False, True])
@pytest.mark.parametrize('chunk', [1, 50, 1 << 22])
def test_lists_are_read_as_by_a_slow_loop(tmp_path, monkeypatch, with_num_frames, chunk):
    monkeypatch.setattr(list_columns, '_CHUNK_BYTES', chunk)
    monkeypatch.setattr(text_lists, '_check_comment', lambda *_: None)
    rng = random.Random(chunk)
    num_records = num_errors = 0
    for _ in range(20):
        text = random_text(rng, 30)[: rng.choice([None, -1])]
        (tmp_path / 'list.txt').write_bytes(text.encode('utf-8', 'surrogateescape'))
        errors = []
        records = parse_list_file(str(tmp_path / 'list.txt'), None, with_num_frames, errors)
        expected = list(slow_records(text, with_num_frames))
        assert [(r.line, (r.path, r.num_frames, r.labels)) for r in records] == [one for one in expected if one[1]]
        assert [int(error.split(':')[1]) for error in errors] == [line for line, found in expected if not found]
        num_records, num_errors = num_records + len(records), num_errors + len(errors)
    assert min(num_records, num_errors) > 100


def test_first_malformed_line_is_reported(tmp_path):
    (tmp_path / 'list.txt').write_text('a 0\n' * 99 + 'b\n' + 'a 0\n' * 99 + 'c x\n')
    with pytest.raises(ValueError, match=r'list\.txt:100: '):
        parse_list_file(str(tmp_path / 'list.txt'))
