import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dsanet.datasets.records import VideoRecord
from dsanet.engine.result_parts import ResultParts, ScoredBatch, describe_test
from tests.as_processes import as_processes

IDENTITY = {'checkpoint': 'abc', 'model': {'blocks': (0, 1)}, 'amp': None}


def make_batch(number: int, multi_hot: bool = False) -> ScoredBatch:
    """Two videos with random scores."""
    rng = np.random.default_rng(number)
    labels = np.float32([[0, 1, 1], [1, 0, 0]]) if multi_hot else np.array([number, 1])
    return ScoredBatch(number, np.array([2 * number, 2 * number + 1]), rng.normal(size=(2, 3)).astype('f4'), labels)


def write(folder: Path, batches: list[ScoredBatch], identity: dict = IDENTITY) -> ResultParts:
    parts = ResultParts(folder, identity)
    parts.start(resume=True)
    for batch in batches:
        parts.add(batch)
    return parts


def read(folder: Path, identity: dict = IDENTITY) -> list[ScoredBatch]:
    parts = ResultParts(folder, identity)
    parts.start(resume=True)
    assert parts.done == {batch.number for batch in parts.restored}
    return parts.restored


def assert_same(one: list[ScoredBatch], other: list[ScoredBatch]) -> None:
    assert [batch.number for batch in one] == [batch.number for batch in other]
    for a, b in zip(one, other, strict=True):
        for name in ('index', 'scores', 'labels'):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert np.array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize('multi_hot', [False, True])
def test_batches_are_restored_bit_identical(tmp_path: Path, multi_hot: bool) -> None:
    batches = [make_batch(number, multi_hot) for number in (0, 3, 5)]
    write(tmp_path / 'x.parts', batches)
    assert_same(read(tmp_path / 'x.parts'), batches)


def test_no_folder_before_the_first_batch(tmp_path: Path) -> None:
    write(tmp_path / 'x.parts', [])
    assert not (tmp_path / 'x.parts').exists()


def test_truncated_file_keeps_its_complete_batches(tmp_path: Path) -> None:
    batches = [make_batch(number) for number in range(3)]
    write(tmp_path, batches)
    file = tmp_path / 'rank_0.jsonl'
    content = file.read_bytes()
    ends = [i for i, byte in enumerate(content) if byte == ord('\n')][2:]  # after an empty line and the identity
    for length in range(0, len(content), 7):
        file.write_bytes(content[:length])
        whole = sum(end <= length for end in ends)  # a line without its newline is complete, too
        assert_same(read(tmp_path), batches[:whole])
        write(tmp_path, batches[whole:])
        assert_same(read(tmp_path), batches)


def test_damaged_line_loses_only_its_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('dsanet.engine.result_parts.LOGGER.propagate', True)
    batches = [make_batch(number) for number in range(3)]
    write(tmp_path, batches)
    file = tmp_path / 'rank_0.jsonl'
    lines = file.read_bytes().split(b'\n')
    damaged = bytearray(lines[3])
    damaged[-10] ^= 1
    lines[3] = bytes(damaged)
    file.write_bytes(b'\n'.join(lines))
    assert_same(read(tmp_path), [batches[0], batches[2]])
    assert len(caplog.messages) == 1
    assert re.search(r'\b1\b.*rank_0.jsonl', caplog.messages[0])


def test_existing_results_require_resume(tmp_path: Path) -> None:
    write(tmp_path / 'x.parts', [make_batch(0), make_batch(1)])
    with pytest.raises(ValueError, match=r'x.parts .*\b2\b.*--resume-test'):
        ResultParts(tmp_path / 'x.parts', IDENTITY).start(resume=False)
    assert_same(read(tmp_path / 'x.parts'), [make_batch(0), make_batch(1)])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'checkpoint': 'def'}, 'checkpoint was abc and is def'),
        ({'amp': 'bf16'}, 'amp was None and is bf16'),
        ({'model': {'blocks': (0, 2)}}, 'model.blocks.1 was 1 and is 2'),
        ({'model': {'blocks': (0, 1), 'depth': 18}}, 'model.depth was None and is 18'),
        ({'seed': 1}, 'seed was None and is 1'),
        ({'amp': 'bf16', 'checkpoint': 'x'}, r'checkpoint was abc and is x, .*\b1\b.*\(amp\)'),
    ],
)
def test_results_of_another_test_are_rejected(tmp_path: Path, change: dict, message: str) -> None:
    write(tmp_path, [make_batch(0)])
    with pytest.raises(ValueError, match=message):
        read(tmp_path, IDENTITY | change)


def test_file_without_batches_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, [make_batch(0)])
    file = tmp_path / 'rank_0.jsonl'
    file.write_bytes(file.read_bytes().split(b'\n')[1] + b'\n')  # the identity
    parts = ResultParts(tmp_path, {'checkpoint': 'def'})
    parts.start(resume=False)
    parts.add(make_batch(1))
    assert_same(read(tmp_path, {'checkpoint': 'def'}), [make_batch(1)])


@pytest.mark.parametrize('shared', [True, False])
def test_each_batch_is_restored_by_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    folders = [tmp_path / ('shared' if shared else str(rank)) for rank in range(3)]

    def interrupted(rank: int) -> None:
        parts = ResultParts(folders[rank], IDENTITY)
        parts.start(resume=False)
        parts.add(make_batch(rank))
        parts.add(make_batch(rank + 3))

    def continued(rank: int) -> ResultParts:
        parts = ResultParts(folders[rank], IDENTITY)
        parts.start(resume=True)
        return parts

    as_processes(monkeypatch, 3, interrupted)
    for world_size in (3, 2, 1) if shared else (3,):
        every = as_processes(monkeypatch, world_size, continued)
        assert all(parts.done == set(range(6)) for parts in every)
        restored = [batch for parts in every for batch in parts.restored]
        assert_same(sorted(restored, key=lambda batch: batch.number), [make_batch(number) for number in range(6)])


@pytest.mark.parametrize('with_another_file', [False, True])
def test_only_part_files_are_removed(tmp_path: Path, with_another_file: bool) -> None:
    folder = tmp_path / 'x.parts'
    parts = write(folder, [make_batch(0)])
    if with_another_file:
        (folder / 'notes.txt').touch()
    parts.remove()
    assert (os.listdir(folder) if folder.exists() else None) == (['notes.txt'] if with_another_file else None)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no /dev/full')
def test_full_disk_names_the_file(tmp_path: Path) -> None:
    (tmp_path / 'rank_0.jsonl').symlink_to('/dev/full')
    parts = ResultParts(tmp_path, IDENTITY)
    with pytest.raises(OSError, match=r'rank_0.jsonl.*No space left on device'):
        parts.add(make_batch(0))


def test_identity_depends_on_spans(tmp_path: Path) -> None:
    (tmp_path / 'weights.pth').write_bytes(b'')

    def hash_of(*spans: tuple[float, float] | None) -> str:
        records = [VideoRecord('a.mp4', (0,), 'a', None, None, *(span or ())) for span in spans]
        config = {'model': {}, 'test_dataloader': {}}
        identity = describe_test(config, str(tmp_path / 'weights.pth'), None, SimpleNamespace(records=records))
        return identity['the SHA-256 of the list of videos']

    assert len({hash_of(None), hash_of((0, 2)), hash_of((0, 3)), hash_of((0, 2), (0, 3))}) == 4
