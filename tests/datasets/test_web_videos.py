"""WebDataset shards as a dataset: which samples, in which order, on any number of processes and workers."""

import importlib
import io
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip('webdataset')

from dsanet.data_tools.shards import write_shards
from dsanet.datasets import MixedDataset, VideoDataset, WebVideoDataset, build_dataloader
from dsanet.datasets.annotation import parse_list_file
from dsanet.datasets.transforms import DecodeVideo, Flip, OpenVideo, PackInputs, RandomResizedCrop, SampleSnippets
from dsanet.datasets.transforms.base import SampleError
from dsanet.datasets.web_videos import shard_name
from dsanet.datasets.workers import start_workers
from dsanet.utils.machine_faults import MachineError
from tests.make_videos import write_video

NUM_VIDEOS = 16
NUM_CLASSES = 4


def pipeline() -> list[Any]:
    reading = [OpenVideo(time_limit=None), SampleSnippets(2, 2, random=True), DecodeVideo()]
    return [*reading, RandomResizedCrop(16), Flip(), PackInputs()]


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    lines = []
    for number in range(NUM_VIDEOS):
        write_video(root / f'v{number}.mp4', 8 + number, 36, 64)
        lines.append(f'v{number}.mp4 {number % NUM_CLASSES}\n')
    (root / 'list.txt').write_text(''.join(lines))
    write_shards(parse_list_file(str(root / 'list.txt'), str(root)), root / 'shards', 4)
    return root


@pytest.fixture
def shards(root: Path) -> str:
    return str(root / 'shards' / 'shard-{0..3}.tar')


def write_tar(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, 'w') as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def read_epochs(shards: str, num_workers: int, world_size: int = 1, num_epochs: int = 1, **options: Any) -> list[Any]:
    """Return the batches by epoch and rank."""
    epochs: list[list[list[Any]]] = [[] for _ in range(num_epochs)]
    for rank in range(world_size):
        dataset = WebVideoDataset(pipeline(), shards, NUM_VIDEOS, **{'shuffle_buffer': 3, **options})
        loader = build_dataloader(dataset, 2, num_workers, training=True, seed=5, rank=rank, world_size=world_size)
        start_workers(loader)
        for epoch in range(num_epochs):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            epochs[epoch].append(list(loader))
    return epochs


def paths(batches: list[Any]) -> list[str]:
    return [path for batch in batches for path in batch['path']]


@pytest.mark.parametrize(('num_workers', 'world_size'), [(0, 1), (2, 2)])
def test_each_video_once_per_epoch(shards: str, num_workers: int, world_size: int) -> None:
    first, second = read_epochs(shards, num_workers, world_size, num_epochs=2)
    for epoch in (first, second):
        assert [len(batches) for batches in epoch] == [8 // world_size] * world_size
        assert len({path for batches in epoch for path in paths(batches)}) == NUM_VIDEOS
    assert paths(first[0]) != paths(second[0])


def test_samples_do_not_depend_on_workers(shards: str) -> None:
    here, there = (
        {
            path: x
            for batch in read_epochs(shards, n)[0][0]
            for path, x in zip(batch['path'], batch['inputs'], strict=True)
        }
        for n in (0, 2)
    )
    assert here.keys() == there.keys()
    assert all(torch.equal(here[path], there[path]) for path in here)


@pytest.mark.parametrize(('num_workers', 'done'), [(0, 3), (2, 3)])
def test_resume_within_an_epoch_is_exact(shards: str, num_workers: int, done: int) -> None:
    [complete] = read_epochs(shards, num_workers)[0]
    dataset = WebVideoDataset(pipeline(), shards, NUM_VIDEOS, shuffle_buffer=3)
    loader = build_dataloader(dataset, 2, num_workers, training=True, seed=5)
    start_workers(loader)
    loader.sampler.set_epoch(0, 2 * done)  # type: ignore[attr-defined]
    rest = list(loader)
    assert paths(rest) == paths(complete[done:])
    assert all(torch.equal(a['inputs'], b['inputs']) for a, b in zip(rest, complete[done:], strict=True))


def test_skipped_videos_are_not_decoded(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(
        OpenVideo,
        '__call__',
        lambda self, record, old=OpenVideo.__call__: (opened.append(record['path']), old(self, record))[1],
    )
    dataset = WebVideoDataset(pipeline(), shards, NUM_VIDEOS)
    loader = build_dataloader(dataset, 2, 0, training=True)
    loader.sampler.set_epoch(0, 12)  # type: ignore[attr-defined]
    assert len(list(loader)) == 2
    assert len(opened) == 4


def test_each_shard_is_opened_once_per_epoch(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    module = importlib.import_module('webdataset.gopen')  # the package has a function of this name, too
    gopen = module.gopen
    monkeypatch.setattr(module, 'gopen', lambda url: opened.append(url) or gopen(url))
    for rank in (0, 1):
        loader = build_dataloader(
            WebVideoDataset(pipeline(), shards, NUM_VIDEOS), 2, 0, training=True, rank=rank, world_size=2
        )
        loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
        list(loader)
    assert len(opened) == len(set(opened)) == 4


def test_samples_equal_those_of_video_files(root: Path, shards: str) -> None:
    files = VideoDataset(pipeline(), str(root / 'list.txt'), str(root))
    seen = Counter()
    for batch in read_epochs(shards, 0)[0][0]:
        for path, label, digest, inputs in zip(*(batch[k] for k in ('path', 'label', 'index', 'inputs')), strict=True):
            number = int(path.rpartition('_v')[2])
            sample = files.make_sample(number, np.random.default_rng((5, 0, int(digest))))
            assert torch.equal(sample['inputs'], inputs)
            assert label == number % NUM_CLASSES
            seen[number] += 1
    assert seen == Counter(range(NUM_VIDEOS))


def test_unequal_shards_still_fill_all_batches(root: Path, tmp_path: Path) -> None:
    video = (root / 'v0.mp4').read_bytes()
    sizes = [1, 6]
    for number, size in enumerate(sizes):
        files = {f'{number}{i}.{end}': data for i in range(size) for end, data in (('mp4', video), ('cls', b'0'))}
        write_tar(tmp_path / f'{number}.tar', files)
    dataset = WebVideoDataset(pipeline(), str(tmp_path / '{0..1}.tar'), sum(sizes), shuffle_buffer=1)
    loader = build_dataloader(dataset, 1, 2, training=True)
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    batches = list(loader)
    assert len(batches) == len(loader) == 7
    times = Counter(paths(batches))
    # One worker has 4 batches and the other 3; that of the small shard repeats its video, with other augmentation.
    assert times['0.tar/00'] in (3, 4)
    repeated = [batch['inputs'] for batch in batches if batch['path'] == ['0.tar/00']]
    assert not torch.equal(repeated[0], repeated[1])
    assert max(count for path, count in times.items() if path[0] == '1') == 1


@pytest.mark.parametrize('content', [{'cls': b'3'}, {'json': json.dumps({'label': 3}).encode()}])
def test_label_formats(root: Path, tmp_path: Path, content: dict[str, bytes]) -> None:
    video = (root / 'v0.mp4').read_bytes()
    shard = write_tar(tmp_path / 'a.tar', {'k.mp4': video, **{f'k.{end}': data for end, data in content.items()}})
    dataset = WebVideoDataset(pipeline(), shard, 1)
    [batch] = build_dataloader(dataset, 1, 0, training=True)
    assert batch['label'].tolist() == [3]


def test_bad_videos_are_replaced_and_reported(root: Path, tmp_path: Path) -> None:
    video = (root / 'v0.mp4').read_bytes()
    files = {'a.mp4': b'no video', 'a.cls': b'0', 'b.mp4': video, 'c.cls': b'0', 'd.mp4': video, 'd.cls': b'0'}
    shard = write_tar(tmp_path / 'x.tar', files)
    dataset = WebVideoDataset(pipeline(), shard, 4, shuffle_buffer=1)
    batch = next(iter(build_dataloader(dataset, 1, 0, training=True)))
    assert batch['path'] == ['x.tar/d']
    assert [case['path'] for case in batch['bad'][0]] == ['x.tar/a', 'x.tar/b', 'x.tar/c']
    assert {case['source'] for case in batch['bad'][0]} == {'x.tar'}
    with pytest.raises(SampleError, match='x.tar/a'):
        next(iter(build_dataloader(dataset, 1, 0, training=True, on_error='raise')))


def test_names_that_are_not_text_train(root: Path, tmp_path: Path) -> None:
    name = '\udcff\udce9'  # bytes that are not UTF-8
    shard = write_tar(tmp_path / 'x.tar', {f'{name}.mp4': (root / 'v0.mp4').read_bytes(), f'{name}.cls': b'3'})
    [batch] = build_dataloader(WebVideoDataset(pipeline(), shard, 1), 1, 0, training=True)
    assert (batch['path'], batch['label'].tolist()) == ([f'x.tar/{name}'], [3])


def test_damaged_shard_is_named_once(shards: str, tmp_path: Path) -> None:
    (tmp_path / 'cut.tar').write_bytes(Path(shards.replace('{0..3}', '0')).read_bytes()[:9000])
    loader = build_dataloader(WebVideoDataset(pipeline(), str(tmp_path / 'cut.tar'), 4), 4, 0, training=True)
    with pytest.raises(MachineError, match=r'^cannot read shard cut\.tar: ReadError: [a-z ]+$'):
        list(loader)


def test_only_bad_videos_end_the_run(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / 'x.tar', {'a.mp4': b'no video', 'a.cls': b'0'})
    with pytest.raises(SampleError, match='10 bad samples'):
        next(iter(build_dataloader(WebVideoDataset(pipeline(), shard, 1), 1, 0, training=True)))
    empty = write_tar(tmp_path / 'e.tar', {})
    with pytest.raises(SampleError, match='e.tar'):
        next(iter(build_dataloader(WebVideoDataset(pipeline(), empty, 1), 1, 0, training=True)))


def test_labels_are_checked_while_reading(shards: str) -> None:
    dataset = WebVideoDataset(pipeline(), shards, NUM_VIDEOS)
    dataset.check_labels(2)
    with pytest.raises(SampleError, match='num_classes=2'):
        list(build_dataloader(dataset, 2, 0, training=True))


@pytest.mark.parametrize('command', ['cat {}', 'head -c 9000 {}', 'cat {} && false', 'no-such-program {}'])
def test_pipes_and_their_failures(root: Path, command: str) -> None:
    shard = f'pipe:{command.format(root / "shards" / "shard-0.tar")}'
    loader = build_dataloader(WebVideoDataset(pipeline(), shard, 4), 4, 0, training=True)
    if command.startswith('cat {}') and '&&' not in command:
        assert len(list(loader)) == 1
        return
    with pytest.raises(MachineError, match=r'cannot read shard shard-0\.tar'):
        list(loader)


def test_what_a_stream_cannot_do_is_an_error(shards: str) -> None:
    dataset = WebVideoDataset(pipeline(), shards, NUM_VIDEOS)
    with pytest.raises(ValueError, match='train_dataloader only'):
        build_dataloader(dataset, 2, 0, training=False)
    for options in ({'class_balance': 'equal'}, {'repeat': 2}, {'clips_per_video': 2}):
        with pytest.raises(ValueError, match='class_balance, repeat and clips_per_video'):
            build_dataloader(dataset, 2, 0, training=True, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='num_workers=5'):
        build_dataloader(dataset, 2, 5, training=True)
    with pytest.raises(ValueError, match='num_videos=16'):
        build_dataloader(dataset, 17, 0, training=True)
    with pytest.raises(ValueError, match='VideoDataset'):
        dataset[0]
    with pytest.raises(ValueError, match='MixedDataset'):
        MixedDataset([dataset])
    loader = build_dataloader(dataset, 2, 0, training=True)
    with pytest.raises(ValueError, match='list of samples'):
        list(loader.sampler)


def test_wrong_shards_are_errors(shards: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'missing\.tar'):
        WebVideoDataset(pipeline(), str(tmp_path / 'missing.tar'), 1)
    with pytest.raises(ValueError, match='pipe:aws s3 cp s3://bucket/a.tar -'):
        WebVideoDataset(pipeline(), 's3://bucket/a.tar', 1)
    with pytest.raises(ValueError, match='twice'):
        WebVideoDataset(pipeline(), [shards, shards], 1)
    with pytest.raises(ValueError, match='empty'):
        WebVideoDataset(pipeline(), [], 1)
    for pattern in ('${MISSING}/a.tar', 'a{0..'):
        with pytest.raises(ValueError, match='shards='):
            WebVideoDataset(pipeline(), pattern, 1)


def test_missing_package_is_a_user_error(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'webdataset.gopen', None)
    with pytest.raises(ValueError, match='pip install webdataset'):
        WebVideoDataset(pipeline(), shards, 1)


@pytest.mark.parametrize(
    ('url', 'name'),
    [
        ('https://user:secret@host/data/train-0001.tar?X-Signature=secret', 'train-0001.tar'),
        ('pipe:aws s3 cp s3://bucket/a/x.tar.gz -', 'x.tar.gz'),
        ('pipe:secret', 'shard'),
    ],
)
def test_names_of_shards_hold_no_secrets(url: str, name: str) -> None:
    assert shard_name(url) == name


@pytest.fixture(scope='module')
def bucket(root: Path) -> Iterator[tuple[str, Any]]:
    """Yield the URL of an S3 server on loopback and its client; bucket ``videos`` has the shards."""
    server = pytest.importorskip('moto.server', reason='moto[server] is not installed')
    boto3 = pytest.importorskip('boto3')
    running = server.ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    url = f'http://{host}:{port}'
    client = boto3.client(
        's3', endpoint_url=url, region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x'
    )
    client.create_bucket(Bucket='videos')
    for file in (root / 'shards').iterdir():
        client.upload_file(str(file), 'videos', file.name)
    yield url, client
    client.close()
    running.stop()


@pytest.mark.sweep
def test_shards_in_s3(bucket: tuple[str, Any], shards: str) -> None:
    url, client = bucket
    signed = [
        client.generate_presigned_url('get_object', {'Bucket': 'videos', 'Key': f'shard-{i}.tar'}) for i in range(4)
    ]
    assert all(one.startswith(url) for one in signed)
    [remote] = read_epochs(signed, 2)[0]  # type: ignore[arg-type]
    [local] = read_epochs(shards, 2)[0]
    assert paths(remote) == paths(local)
    assert all(torch.equal(a['inputs'], b['inputs']) for a, b in zip(remote, local, strict=True))


@pytest.mark.sweep
def test_missing_object_in_s3_is_an_error(bucket: tuple[str, Any]) -> None:
    url, client = bucket
    missing = client.generate_presigned_url('get_object', {'Bucket': 'videos', 'Key': 'none.tar'})
    loader = build_dataloader(WebVideoDataset(pipeline(), missing, 4), 2, 0, training=True)
    with pytest.raises(MachineError, match=r'none\.tar') as error:
        list(loader)
    assert 'Signature' not in str(error.value)
