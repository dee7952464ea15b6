"""Writing WebDataset shards."""

import tarfile
from pathlib import Path

import pytest

pytest.importorskip('webdataset')

from dsanet.data_tools.shards import write_shards
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.web_videos import read_shards


@pytest.fixture
def records(tmp_path: Path) -> list[VideoRecord]:
    for number in range(7):
        (tmp_path / f'v.{number}.MP4').write_bytes(b'video %d' % number)
    return [VideoRecord(str(tmp_path / f'v.{n}.MP4'), (n % 3,), 'list.txt', n + 1) for n in range(7)]


def test_every_video_is_in_one_shard(records: list[VideoRecord], tmp_path: Path) -> None:
    pattern = write_shards(records, tmp_path / 'out', 3)
    assert pattern == str(tmp_path / 'out' / 'shard-{0..2}.tar')
    found = {}
    sizes = []
    for number in range(3):
        with tarfile.open(tmp_path / 'out' / f'shard-{number}.tar') as tar:
            contents = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        sizes.append(len(contents) // 2)
        found |= contents
    assert sizes == [3, 2, 2]
    expected = {f'0000000{n}_v_{n}.mp4': b'video %d' % n for n in range(7)}
    assert found == expected | {f'0000000{n}_v_{n}.cls': b'%d' % (n % 3) for n in range(7)}


def test_order_depends_on_the_seed(records: list[VideoRecord], tmp_path: Path) -> None:
    names = []
    for number, seed in enumerate((0, 0, 1)):
        write_shards(records, tmp_path / str(number), 1, seed)
        with tarfile.open(tmp_path / str(number) / 'shard-0.tar') as tar:
            names.append(tar.getnames())
    assert names[0] == names[1] != names[2]
    assert sorted(names[0]) == sorted(names[2])


def test_unsuitable_records_are_errors(records: list[VideoRecord], tmp_path: Path) -> None:
    out = tmp_path / 'out'
    with pytest.raises(ValueError, match='num_shards=8'):
        write_shards(records, out, 8)
    with pytest.raises(ValueError, match='list.txt:9'):
        write_shards([*records, VideoRecord(records[0].path, (0, 1), 'list.txt', 9)], out, 2)
    with pytest.raises(FileNotFoundError, match='none.mp4'):
        write_shards([*records, VideoRecord(str(tmp_path / 'none.mp4'), (0,), 'list.txt', 9)], out, 2)
    assert not out.exists()
    with pytest.raises(ValueError, match='not empty'):
        write_shards(records, tmp_path, 2)


@pytest.mark.parametrize('name', ['v', 'v.cls', 'v.json', 'v.raw'])
def test_video_without_usual_extension_is_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'video')
    pattern = write_shards([VideoRecord(str(tmp_path / name), (3,), 'list.txt', 1)], tmp_path / 'out', 1)
    [sample] = read_shards([pattern])
    assert (sample['mp4'], sample['cls']) == (b'video', b'3')


@pytest.mark.parametrize('name', ['a{1,2}', 'a::b'])
def test_folder_that_is_a_pattern_raises(records: list[VideoRecord], name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='must not contain'):
        write_shards(records, tmp_path / name, 2)
    assert not (tmp_path / name).exists()
