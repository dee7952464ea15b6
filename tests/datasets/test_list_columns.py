"""Usual lines of lists are read many at a time; that they are read correctly is tested in test_text_lists.py."""

import pytest

from dsanet.datasets import text_lists
from dsanet.datasets.annotation import parse_list_file
from dsanet.datasets.list_columns import read_columns


@pytest.mark.parametrize(
    'line', ['a b/c.mp4 {}', 'é/c\t{}', '視 視 {}', './# {}', 'a\udcdf {}', 'a {},200,300', 'a 1,b {}', 'a\u00a0b {}']
)
def test_usual_lines_are_not_parsed_one_by_one(tmp_path, monkeypatch, line):
    parsed = []
    original = text_lists._parse_line
    monkeypatch.setattr(text_lists, '_parse_line', lambda *args: parsed.append(args[0]) or original(*args))
    lines = [line.format(number) for number in range(100)]
    lines[40:40] = ['', f'{lines[7]}  ']
    (tmp_path / 'list.txt').write_bytes('\r\n'.join(lines).encode('utf-8', 'surrogateescape'))
    records = parse_list_file(str(tmp_path / 'list.txt'))
    assert parsed == [lines[7]]
    assert [record.line for record in records] == [*range(1, 41), *range(42, 103)]


def test_columns_cover_the_whole_text():
    text = b'a 1\n\nb c 22,3\nd\n#e 4\nf 5'
    (columns,) = read_columns(text, with_num_frames=False)
    assert [text[i:j] for i, j in zip(columns.begins, columns.ends, strict=True)] == text.split(b'\n')
    assert columns.is_usual.tolist() == [True, False, True, False, False, True]
    assert (columns.label_rows.tolist(), columns.labels.tolist()) == ([0, 2, 2, 5], [1, 22, 3, 5])
    assert [text[columns.begins[i] : columns.path_ends[i]] for i in (0, 2, 5)] == [b'a', b'b c', b'f']
    assert list(read_columns(b'', with_num_frames=True)) == []
