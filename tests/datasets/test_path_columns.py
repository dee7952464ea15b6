"""Paths in one text, compared with lists of paths."""

import os
import random

import numpy as np
import pytest

from dsanet.datasets.path_columns import PathColumns, RecordSource
from dsanet.datasets.records import VideoRecord, VideoRecords

PATHS = [
    'a/b.mp4',
    'a/é',
    'a/ü',
    'a/bc',
    '/data/a/b.mp4',
    '/data/a/c',
    'wei\udcdf',
    './a',
    'a//b',
    '../x',
    'a/../b',
    'a/',
]


def columns_of(paths, root=''):
    text = ' '.join(paths).encode('utf-8', 'surrogateescape')
    sizes = np.array([len(path.encode('utf-8', 'surrogateescape')) for path in paths], np.int32)
    return PathColumns((RecordSource('x', root, text),), np.cumsum(sizes + 1) - sizes - 1, sizes)


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('root', ['', 'data', '/data/'])
def test_paths_equal_the_joined_ones(seed, root):
    rng = random.Random(seed)
    paths = rng.choices(rng.choice([PATHS[:4], PATHS[4:6], PATHS]), k=30)
    columns = columns_of(paths, root)
    if seed % 2:  # of two sources
        columns = PathColumns.concatenate([columns.take(np.arange(20)), columns_of(paths[20:], root)])
    full = [os.path.join(root, path) for path in paths]
    assert [path.decode('utf-8', 'surrogateescape') for chunk in columns.chunks() for path in chunk] == full
    for folder, skip in (('', 0), ('/home', 0), ('', 3)):
        expected = [os.path.join(folder, path).encode('utf-8', 'surrogateescape')[skip:] for path in full]
        assert [path for chunk in columns.chunks(folder, skip) for path in chunk] == expected
    common = os.path.commonprefix(full)
    assert columns.common_folder().decode('utf-8', 'surrogateescape') == common[: common.rfind('/') + 1]
    if columns.are_normal():
        absolute = [os.path.join('/', path) for path in full]
        assert list(map(os.path.normpath, absolute)) == absolute


@pytest.mark.parametrize(
    ('root', 'path', 'is_normal'),
    [
        ('', 'a/b', True),
        ('data/', 'a.b', True),
        ('/data', '/x', True),
        ('.', 'a', False),
        ('', './a', False),
        ('', 'a//b', False),
        ('../d', 'a', False),
        ('', 'a/', False),
        ('a//b', 'c', False),
    ],
)
def test_usual_paths_need_no_normalization(root, path, is_normal):
    assert columns_of(['x', path], root).are_normal() == is_normal


def test_class_folders_share_one_text():
    records = VideoRecords.of([VideoRecord(f'{k}/a', (k,), f'{k}') for k in range(300)])
    assert len({id(source.text) for source in records.paths.sources}) == 1
    assert records.paths.are_normal()
