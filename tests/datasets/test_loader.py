import cv2
import pytest
import torch

from codes.datasets import VideoDataset, build_dataloader
from codes.datasets.loader import EpochSampler, ShardSampler, collate, init_worker
from codes.datasets.transforms import (
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    RandomResizedCrop,
    SampleSnippets,
)
from tests.make_videos import write_video

NUM_VIDEOS = 7


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_video(root / 'a.mp4', 40)
    (root / 'list.txt').write_text(''.join(f'a.mp4 {label}\n' for label in range(NUM_VIDEOS)))
    return root


@pytest.fixture
def dataset(root):
    pipeline = [
        OpenVideo(),
        SampleSnippets(2, 3, random=True),
        DecodeVideo(),
        RandomResizedCrop(16),
        Flip(),
        PackInputs(),
    ]
    return VideoDataset(pipeline, str(root / 'list.txt'), str(root))


def epochs(dataset, num_workers, num_epochs=2):
    loader = build_dataloader(dataset, 2, num_workers, training=True, seed=5)
    batches = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)
        batches.append(list(loader))
    return batches


def order(num_samples, batch_size, rank=0, world_size=1, seed=0, epoch=0):
    sampler = EpochSampler(num_samples, batch_size, seed, rank, world_size)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    assert {key[0] for key in keys} == {epoch}
    return [key[1] for key in keys]


def test_batches_do_not_depend_on_workers_and_differ_by_epoch(dataset):
    here, there = epochs(dataset, num_workers=0), epochs(dataset, num_workers=2)
    for one, other in zip(here, there, strict=True):
        assert len(one) == 3
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a['inputs'], b['inputs'])
            assert torch.equal(a['label'], b['label'])
            assert torch.equal(a['index'], b['index'])
            assert a['path'] == b['path']
    first, second = (
        {index: x for batch in epoch for index, x in zip(batch['index'].tolist(), batch['inputs'], strict=True)}
        for epoch in here
    )
    assert list(first) != list(second)
    assert all(not torch.equal(first[i], second[i]) for i in first.keys() & second.keys())


def test_an_epoch_can_be_repeated_alone(dataset):
    loader = build_dataloader(dataset, 2, 0, training=True, seed=5)
    loader.sampler.set_epoch(1)
    for a, b in zip(loader, epochs(dataset, 0)[1], strict=True):
        assert torch.equal(a['inputs'], b['inputs'])


def test_loading_leaves_the_global_generators_alone(dataset):
    state = torch.get_rng_state()
    epochs(dataset, num_workers=0, num_epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_has_typed_entries_and_channels_last_memory(dataset):
    batch = next(iter(build_dataloader(dataset, 3, 0, training=False)))
    assert batch['inputs'].shape == (3, 1, 2, 3, 3, 16, 16)
    assert batch['inputs'].dtype == torch.uint8
    assert batch['inputs'].permute(0, 1, 2, 4, 5, 6, 3).is_contiguous()
    assert batch['label'].tolist() == batch['index'].tolist() == [0, 1, 2]
    assert batch['label'].dtype == batch['index'].dtype == torch.int64
    assert batch['path'] == [dataset.records[0].path] * 3
    for n in range(3):
        assert torch.equal(batch['inputs'][n], dataset[n]['inputs'])


@pytest.mark.parametrize('num_workers', [0, 1])
def test_multi_hot_labels_are_stacked(root, tmp_path, num_workers):
    (tmp_path / 'list.txt').write_text('a.mp4 2,0\na.mp4 1\n')
    pipeline = [OpenVideo(), SampleSnippets(1, 1), DecodeVideo(), PackInputs()]
    dataset = VideoDataset(pipeline, str(tmp_path / 'list.txt'), str(root), multi_hot=3)
    (batch,) = build_dataloader(dataset, 2, num_workers, training=False)
    assert batch['label'].tolist() == [[1, 0, 1], [0, 1, 0]]
    assert batch['label'].dtype == torch.float32


def test_channels_last_memory_survives_the_way_from_a_worker(dataset):
    batch = next(iter(build_dataloader(dataset, 2, 1, training=False)))
    assert batch['inputs'].permute(0, 1, 2, 4, 5, 6, 3).is_contiguous()


def test_order_is_a_permutation_that_seed_and_epoch_decide():
    orders = {(seed, epoch): tuple(order(20, 2, seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert all(sorted(o) == list(range(20)) for o in orders.values())
    assert tuple(order(20, 2)) == orders[0, 0]


def test_ranks_are_disjoint_equally_long_and_share_full_global_batches():
    shards = [order(23, batch_size=2, rank=rank, world_size=4) for rank in range(4)]
    assert [len(shard) for shard in shards] == [4] * 4
    assert len({index for shard in shards for index in shard}) == 16


def test_global_batches_do_not_depend_on_the_number_of_processes():
    def global_batches(world_size):
        batch = 8 // world_size
        shards = [order(50, batch, rank, world_size) for rank in range(world_size)]
        return [
            {index for shard in shards for index in shard[k * batch : (k + 1) * batch]}
            for k in range(len(shards[0]) // batch)
        ]

    assert len(global_batches(1)) == 6
    assert global_batches(1) == global_batches(2) == global_batches(8)


def test_data_set_smaller_than_a_global_batch_is_refused(dataset):
    with pytest.raises(ValueError, match=r'batch_size=4 x 2 process\(es\) = 8 videos, but the data set has 7'):
        build_dataloader(dataset, 4, 0, training=True, world_size=2)


@pytest.mark.parametrize('world_size', [1, 2, 3, 7, 10])
def test_evaluation_takes_every_sample_exactly_once(world_size):
    shards = [list(ShardSampler(NUM_VIDEOS, rank, world_size)) for rank in range(world_size)]
    assert [len(ShardSampler(NUM_VIDEOS, r, world_size)) for r in range(world_size)] == [len(s) for s in shards]
    assert sorted(index for shard in shards for index in shard) == list(range(NUM_VIDEOS))
    assert shards[0] == list(range(0, NUM_VIDEOS, world_size))


def test_evaluation_keeps_the_last_small_batch_and_allows_an_empty_shard(dataset):
    loader = build_dataloader(dataset, 3, 0, training=False)
    assert [batch['index'].tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(build_dataloader(dataset, 3, 0, training=False, rank=8, world_size=9)) == []


def test_training_drops_what_does_not_fill_a_batch(dataset):
    loader = build_dataloader(dataset, 3, 0, training=True)
    assert len(loader) == 2
    assert [len(batch['label']) for batch in loader] == [3, 3]


def test_different_shapes_in_a_batch_name_two_videos():
    samples = [
        {'inputs': torch.zeros(1, 2, 3, 4, 5, width), 'path': f'{width}.mp4', 'label': 0, 'index': 0}
        for width in (6, 6, 7)
    ]
    with pytest.raises(ValueError, match=r'\(1, 2, 3, 4, 5, 6\) of 6.mp4 and \(1, 2, 3, 4, 5, 7\) of 7.mp4'):
        collate(samples)


def test_an_error_in_a_worker_names_the_video(root):
    (root / 'bad.txt').write_text('none.mp4 0\n')
    dataset = VideoDataset([OpenVideo(), SampleSnippets(1, 1), DecodeVideo(), PackInputs()], str(root / 'bad.txt'))
    with pytest.raises(FileNotFoundError, match='bad.txt:1: no video'):
        list(build_dataloader(dataset, 1, 1, training=False))


def test_pipeline_without_packing_is_refused(root):
    dataset = VideoDataset([OpenVideo()], str(root / 'list.txt'), str(root))
    with pytest.raises(ValueError, match="the pipeline does not give 'inputs': end it with PackInputs"):
        build_dataloader(dataset, 1, 0, training=False)


@pytest.mark.parametrize(
    ('name', 'value', 'low'),
    [('batch_size', 0, 1), ('num_workers', -1, 0), ('seed', -1, 0), ('world_size', 0, 1)],
)
def test_numbers_out_of_range_are_refused(dataset, name, value, low):
    arguments = dict(batch_size=1, num_workers=0, training=False) | {name: value}
    with pytest.raises(ValueError, match=f'{name} must be at least {low}, got {value}'):
        build_dataloader(dataset, **arguments)


def test_rank_out_of_range_is_refused(dataset):
    with pytest.raises(ValueError, match='rank must be from 0 to world_size - 1 = 1, got 2'):
        build_dataloader(dataset, 1, 0, training=False, rank=2, world_size=2)


def test_workers_stay_alive_between_epochs_and_use_one_thread(dataset):
    assert build_dataloader(dataset, 1, 1, training=False).persistent_workers
    assert not build_dataloader(dataset, 1, 0, training=False).persistent_workers
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(2)
        cv2.setNumThreads(2)
        init_worker(0)
        assert torch.get_num_threads() == 1
        assert cv2.getNumThreads() == 1
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
