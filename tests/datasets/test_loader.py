import numpy as np
import pytest
import torch

from dsanet.datasets import MixedDataset, VideoDataset, build_dataloader
from dsanet.datasets.loader import EpochSampler, ShardSampler, collate
from dsanet.datasets.transforms import DecodeVideo, Flip, OpenVideo, PackInputs, RandomResizedCrop, SampleSnippets
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


def test_batches_depend_on_epoch_but_not_on_workers(dataset):
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


def test_batches_from_workers_are_channels_last(dataset):
    batch = next(iter(build_dataloader(dataset, 2, 1, training=False)))
    assert batch['inputs'].permute(0, 1, 2, 4, 5, 6, 3).is_contiguous()


def test_order_is_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): tuple(order(20, 2, seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert all(sorted(o) == list(range(20)) for o in orders.values())
    assert tuple(order(20, 2)) == orders[0, 0]


def test_ranks_share_full_global_batches():
    shards = [order(23, batch_size=2, rank=rank, world_size=4) for rank in range(4)]
    assert [len(shard) for shard in shards] == [4] * 4
    assert len({index for shard in shards for index in shard}) == 16


def test_global_batches_are_independent_of_world_size():
    def global_batches(world_size):
        batch = 8 // world_size
        shards = [order(50, batch, rank, world_size) for rank in range(world_size)]
        return [
            {index for shard in shards for index in shard[k * batch : (k + 1) * batch]}
            for k in range(len(shards[0]) // batch)
        ]

    assert len(global_batches(1)) == 6
    assert global_batches(1) == global_batches(2) == global_batches(8)


def test_dataset_smaller_than_a_batch_is_an_error(dataset):
    with pytest.raises(ValueError, match=r'batch_size=4 x 2 .*= 8 .* 7$'):
        build_dataloader(dataset, 4, 0, training=True, world_size=2)


@pytest.mark.parametrize('batch_size', [1, 2, 3, 7, 8])
@pytest.mark.parametrize('world_size', [1, 2, 3, 7, 10])
def test_evaluation_batches_are_independent_of_world_size(batch_size, world_size):
    samplers = [ShardSampler(NUM_VIDEOS, batch_size, rank, world_size) for rank in range(world_size)]
    shards = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(shard) for shard in shards]
    assert sorted(index for shard in shards for index in shard) == list(range(NUM_VIDEOS))
    order = list(range(NUM_VIDEOS))
    alone = [order[i : i + batch_size] for i in range(0, NUM_VIDEOS, batch_size)]
    for rank, shard in enumerate(shards):
        batches = [shard[i : i + batch_size] for i in range(0, len(shard), batch_size)]  # as the loader cuts it
        assert batches == alone[rank::world_size]


def test_evaluation_divides_remaining_batches(dataset):
    loaders = [build_dataloader(dataset, 2, 0, training=False, rank=rank, world_size=2) for rank in range(2)]
    for loader in loaders:
        loader.sampler.skip_batches({0, 2})  # of [0, 1], [2, 3], [4, 5], [6]
    assert [[batch['index'].tolist() for batch in loader] for loader in loaders] == [[[2, 3]], [[6]]]
    assert [len(loader) for loader in loaders] == [1, 1]
    loaders[0].sampler.skip_batches(range(4))
    assert list(loaders[0]) == []


def test_evaluation_allows_small_batches_and_empty_shards(dataset):
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
    with pytest.raises(ValueError, match=r'\(1, 2, 3, 4, 5, 6\) for 6.mp4 .*\(1, 2, 3, 4, 5, 7\) for 7.mp4'):
        collate(samples)


def test_an_error_in_a_worker_names_the_video(root):
    (root / 'bad.txt').write_text('none.mp4 0\n')
    dataset = VideoDataset([OpenVideo(), SampleSnippets(1, 1), DecodeVideo(), PackInputs()], str(root / 'bad.txt'))
    with pytest.raises(FileNotFoundError, match=r'bad.txt:1: .*none.mp4'):
        list(build_dataloader(dataset, 1, 1, training=False))


def test_pipeline_without_packing_is_refused(root):
    dataset = VideoDataset([OpenVideo()], str(root / 'list.txt'), str(root))
    with pytest.raises(ValueError, match='PackInputs'):
        build_dataloader(dataset, 1, 0, training=False)


@pytest.mark.parametrize(
    ('name', 'value', 'low'),
    [('batch_size', 0, 1), ('num_workers', -1, 0), ('seed', -1, 0), ('world_size', 0, 1)],
)
def test_numbers_out_of_range_are_refused(dataset, name, value, low):
    arguments = dict(batch_size=1, num_workers=0, training=False) | {name: value}
    with pytest.raises(ValueError, match=f'{name} .*{low}.*{value}'):
        build_dataloader(dataset, **arguments)


def test_rank_out_of_range_is_refused(dataset):
    with pytest.raises(ValueError, match='rank .* 1, got 2'):
        build_dataloader(dataset, 1, 0, training=False, rank=2, world_size=2)


@pytest.mark.sweep
@pytest.mark.parametrize('method', ['forkserver', 'spawn'])
def test_other_start_methods_give_the_same_batches(dataset, method):
    loaders = [build_dataloader(dataset, 2, 1, training=True) for _ in range(2)]
    loaders[1].multiprocessing_context = method
    one, two = ([batch['inputs'] for batch in loader] for loader in loaders)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize('first', [0, 2, 4])
def test_epoch_resumes_in_the_middle(first):
    for rank in range(2):
        sampler = EpochSampler(13, 1, seed=3, rank=rank, world_size=2, accumulate=2)
        sampler.set_epoch(4)
        whole = list(sampler)
        assert len(whole) == len(sampler) == 6  # 12 of 13 make three steps of two batches of two processes
        sampler.set_epoch(4, first)
        assert list(sampler) == whole[first:]
        assert len(sampler) == 6


def keys_of(dataset, epoch=0, rank=0, world_size=1, batch_size=2, seed=5, **options):
    loader = build_dataloader(
        dataset, batch_size, 0, training=True, seed=seed, rank=rank, world_size=world_size, **options
    )
    loader.sampler.set_epoch(epoch)
    keys = list(loader.sampler)
    assert len(keys) == len(loader.sampler) == len(loader) * batch_size
    return keys


def imbalanced(root, **options):
    labels = [0] * 12 + [1] * 3 + [2]
    (root / 'imbalanced.txt').write_text(''.join(f'a.mp4 {label}\n' for label in labels))
    pipeline = [OpenVideo(), SampleSnippets(1, 1, random=True), DecodeVideo(), RandomResizedCrop(16), PackInputs()]
    return VideoDataset(pipeline, str(root / 'imbalanced.txt'), str(root), **options)


def test_the_usual_order_has_keys_as_ever(dataset):
    expected = np.random.default_rng((5, 3)).permutation(NUM_VIDEOS)[:6]
    assert keys_of(dataset, epoch=3) == [(3, index) for index in expected.tolist()]


def test_repeat_augments_each_pass_differently(dataset):
    keys = keys_of(dataset, epoch=1, repeat=4)
    assert sorted(keys) == [(1, index, time) for index in range(NUM_VIDEOS) for time in range(4)]
    inputs = [dataset[key]['inputs'] for key in keys if key[1] == 2]
    assert all(not torch.equal(a, b) for i, a in enumerate(inputs) for b in inputs[:i])
    # A dataset smaller than a batch is enough if it is repeated.
    assert len(keys_of(dataset, batch_size=20, repeat=3)) == 20
    with pytest.raises(ValueError, match=r'= 20 .* 7 x repeat=2'):
        keys_of(dataset, batch_size=20, repeat=2)


@pytest.mark.parametrize('class_balance', ['equal', 'square_root'])
def test_balanced_epochs_are_independent_of_world_size(root, class_balance):
    dataset = imbalanced(root)
    options = {'class_balance': class_balance, 'repeat': 3, 'epoch': 2}
    alone = keys_of(dataset, batch_size=4, **options)
    assert len(set(alone)) == len(alone) == 48
    shared = [keys_of(dataset, batch_size=1, rank=rank, world_size=4, **options) for rank in range(4)]
    assert [key for batch in zip(*shared, strict=True) for key in batch] == alone
    counts = np.bincount([dataset.labels[key[1]] for key in alone])
    wanted = np.full(3, 16) if class_balance == 'equal' else 48 * np.sqrt([12, 3, 1]) / np.sqrt([12, 3, 1]).sum()
    assert (np.abs(counts - wanted) < 1).all()


def test_balanced_epochs_differ_and_resume_alone(root):
    def batches(epoch, num_workers):
        loader = build_dataloader(imbalanced(root), 4, num_workers, class_balance='equal', training=True, seed=1)
        loader.sampler.set_epoch(epoch)
        return list(loader)

    assert keys_of(imbalanced(root), 0, class_balance='equal') != keys_of(imbalanced(root), 1, class_balance='equal')
    for a, b in zip(batches(2, 0), batches(2, 1), strict=True):
        assert torch.equal(a['inputs'], b['inputs'])
        assert a['label'].tolist() == b['label'].tolist()
    rare = [
        x for batch in batches(2, 0) for x, label in zip(batch['inputs'], batch['label'], strict=True) if label == 2
    ]
    assert len(rare) >= 5
    assert all(not torch.equal(a, b) for i, a in enumerate(rare) for b in rare[:i])


def test_mixtures_are_loaded_by_weight(root):
    mixture = MixedDataset([imbalanced(root), imbalanced(root, classes=[1])], [3, 1])
    keys = keys_of(mixture, repeat=4, batch_size=4)
    assert np.bincount([index >= 16 for _, index, _ in keys]).tolist() == [57, 19]
    assert [batch['index'].tolist() for batch in build_dataloader(mixture, 10, 0, training=False)] == [
        list(range(10)),
        list(range(10, 19)),
    ]


def damaged(root, tmp_path):
    """Six videos, of which the second is cut off."""
    (tmp_path / 'bad.mp4').write_bytes((root / 'a.mp4').read_bytes()[:1000])
    names = [root / 'a.mp4', tmp_path / 'bad.mp4', *[root / 'a.mp4'] * 4]
    (tmp_path / 'list.txt').write_text(''.join(f'{name} {n % 2}\n' for n, name in enumerate(names)))
    pipeline = [OpenVideo(), SampleSnippets(1, 1, random=True), DecodeVideo(), RandomResizedCrop(16), PackInputs()]
    return VideoDataset(pipeline, str(tmp_path / 'list.txt'))


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_replaces_and_reports_bad_samples(root, tmp_path, num_workers):
    dataset = damaged(root, tmp_path)
    batches = list(build_dataloader(dataset, 2, num_workers, training=True))
    assert sorted(len(batch['bad']) for batch in batches) == [0, 0, 1]
    ((bad,),) = (bad for batch in batches for bad in batch['bad'])
    assert bad['path'] == str(tmp_path / 'bad.mp4')
    assert bad['source'] == f'{tmp_path}/list.txt:2'
    assert "decoder='pyav'" in bad['reason']
    indices = [index for batch in batches for index in batch['index'].tolist()]
    assert len(indices) == 6
    assert 1 not in indices
    assert sorted(label for batch in batches for label in batch['label'].tolist()) == [0, 0, 0, 1, 1, 1]
    # The replacement is the same with and without workers.
    again = list(build_dataloader(dataset, 2, 0, training=True))
    assert all(torch.equal(a['inputs'], b['inputs']) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize('num_workers', [0, 1])
def test_bad_samples_are_errors_without_resampling(root, tmp_path, num_workers):
    dataset = damaged(root, tmp_path)
    for options in ({'training': False}, {'training': True, 'on_error': 'raise'}, {'training': False}):
        with pytest.raises(ValueError, match=r"list.txt:2: .*bad.mp4 .* decoder='pyav'"):
            list(build_dataloader(dataset, 2, num_workers, **options))
    list(build_dataloader(dataset, 2, num_workers, training=True, on_error='resample'))


def test_options_of_training_are_refused_in_evaluation(dataset):
    for option in ({'class_balance': 'equal'}, {'repeat': 2}, {'on_error': 'resample'}):
        with pytest.raises(ValueError, match=next(iter(option))):
            build_dataloader(dataset, 1, 0, training=False, **option)
    build_dataloader(dataset, 1, 0, training=False, on_error='raise', repeat=1, class_balance=None)


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ({'on_error': 'skip'}, "on_error='skip' .*'raise', 'resample'"),
        ({'max_bad_share': 1.5}, 'max_bad_share=1.5 .* 0 and 1'),
        ({'repeat': 0}, 'repeat .* 1, got 0'),
        ({'class_balance': 'even'}, "class_balance='even' .*'equal'"),
    ],
)
def test_wrong_options_are_refused(dataset, option, text):
    with pytest.raises(ValueError, match=text):
        build_dataloader(dataset, 1, 0, training=True, **option)


def test_the_largest_share_is_handed_to_whoever_counts(dataset):
    build_dataloader(dataset, 1, 0, training=True, max_bad_share=0.05)
    assert dataset.max_bad_share == 0.05
    build_dataloader(dataset, 1, 0, training=True)
    assert dataset.max_bad_share == 0.2
