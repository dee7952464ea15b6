"""Each reader, the transcoder and the extraction of frames return FFmpeg's frames of odd videos, or refuse them."""

import re
from functools import cache

import pytest

from dsanet.datasets.video.readers import is_installed
from tests.make_odd_videos import KINDS
from tests.make_video_table import COLUMNS, check, describe_versions
from tests.test_project import ROOT

PAGE = (ROOT / 'docs' / 'video_formats.md').read_text()
ROWS = {
    row[0]: dict(zip(COLUMNS, row[1:], strict=True)) for row in re.findall(r'^\| (.+)' + r' \| (\w+)' * 5, PAGE, re.M)
}
# Which film, and how to fill the corners.
REFUSED_BY_PYAV = {'Two video streams', 'Rotated by 30 degrees'}


@pytest.fixture(scope='module')
def make(tmp_path_factory):
    folder = tmp_path_factory.mktemp('odd')
    return cache(lambda kind: KINDS[kind](folder, re.sub(r'\W+', '_', kind)))


@pytest.mark.parametrize(
    'column', [pytest.param(column, marks=[] if column == 'pyav' else pytest.mark.sweep) for column in COLUMNS]
)
@pytest.mark.parametrize(
    'kind', [pytest.param(kind, marks=pytest.mark.sweep) if kind.startswith('DV ') else kind for kind in KINDS]
)
def test_frames_are_those_of_ffmpeg_or_refused(make, tmp_path, kind, column):
    if column == 'decord' and not is_installed('decord'):
        pytest.skip('decord is not installed')
    result = check(column, make(kind), tmp_path)
    if column == 'pyav':
        assert result == ('refused' if kind in REFUSED_BY_PYAV else 'yes')
    else:
        assert result in ('yes', 'refused')
    # decord reads ahead in a thread, which may or may not fail at the end of a truncated file before the last read.
    if column == 'decord' and kind.startswith('Truncated'):
        return
    if f'with {describe_versions()}.' in PAGE:  # other versions may refuse other files
        assert ROWS[kind][column] == result, 'update the table with python -m tests.make_video_table'


def test_table_has_all_kinds_in_order():
    assert list(ROWS) == list(KINDS)
