from collections import Counter

import numpy as np
import pytest

from dsanet.datasets import MixedDataset, VideoDataset
from dsanet.datasets.order import count_repetitions, draw_epoch, plan_groups
from dsanet.datasets.transforms import OpenVideo


def make_dataset(tmp_path, labels, name='list', **options):
    (tmp_path / name).write_text(''.join(f'{n}.mp4 {label}\n' for n, label in enumerate(labels)))
    return VideoDataset([OpenVideo()], str(tmp_path / name), **options)


# 16, 4 and 1 videos; class 1 has none.
LABELS = [0] * 8 + [3] * 4 + [0] * 8 + [2]


def draw(dataset, class_balance, length, seed=0):
    plan = plan_groups(dataset, class_balance)
    assert plan is not None
    return draw_epoch(*plan, length, np.random.default_rng(seed))


def test_no_class_balance_needs_no_groups(tmp_path):
    assert plan_groups(make_dataset(tmp_path, LABELS), None) is None
    parts = [make_dataset(tmp_path, LABELS)] * 2
    assert plan_groups(MixedDataset(parts), None) is None


@pytest.mark.parametrize(('class_balance', 'shares'), [('equal', (1, 1, 1)), ('square_root', (4, 1, 2))])
def test_classes_get_their_shares(tmp_path, class_balance, shares):
    dataset = make_dataset(tmp_path, LABELS)
    groups, found = plan_groups(dataset, class_balance)
    assert [dataset.labels[group].tolist() for group in groups] == [[0] * 16, [2], [3] * 4]
    assert found == pytest.approx(np.array(shares) / sum(shares))
    for length in (21, 42, 100):
        order = draw(dataset, class_balance, length)
        assert len(order) == length
        counts = Counter(dataset.labels[order].tolist())
        for label, share in zip((0, 2, 3), shares, strict=True):
            assert abs(counts[label] - length * share / sum(shares)) < 1
            # Within a class every video is taken equally often, or once more.
            times = [np.sum(order == place) for place in np.flatnonzero(dataset.labels == label)]
            assert max(times) - min(times) <= 1


def test_fractional_shares_are_right_on_average(tmp_path):
    dataset = make_dataset(tmp_path, LABELS)
    counts = Counter(dataset.labels[draw(dataset, 'equal', 10, seed)].tolist().count(2) for seed in range(300))
    assert set(counts) == {3, 4}
    assert counts[4] / 300 == pytest.approx(1 / 3, abs=0.1)


def test_epoch_is_shuffled_by_its_generator(tmp_path):
    dataset = make_dataset(tmp_path, LABELS)
    orders = [draw(dataset, 'equal', 21, seed).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) != sorted(orders[2])
    assert orders[0] != sorted(orders[0])
    first = [dataset.labels[draw(dataset, 'equal', 21, seed)[0]] for seed in range(60)]
    assert set(first) == {0, 2, 3}


def test_weights_share_an_epoch_among_data_sets(tmp_path):
    parts = [make_dataset(tmp_path, LABELS), make_dataset(tmp_path, [1] * 4, 'other')]
    for class_balance in (None, 'equal', 'square_root'):
        dataset = MixedDataset(parts, weights=[1, 3])
        order = draw(dataset, class_balance, 100)
        assert np.sum(order >= 21) == 75
        assert Counter(order[order >= 21].tolist()).most_common(1)[0][1] <= 20
        classes = Counter(dataset.labels[order[order < 21]].tolist())
        smallest = {None: (1, 2), 'equal': (8, 9), 'square_root': (3, 4)}[class_balance]
        assert classes[2] in smallest


def test_a_mixture_without_weights_is_balanced_as_one(tmp_path):
    parts = [make_dataset(tmp_path, LABELS), make_dataset(tmp_path, [0] * 4 + [5], 'other')]
    dataset = MixedDataset(parts)
    groups, shares = plan_groups(dataset, 'equal')
    assert [len(group) for group in groups] == [20, 1, 4, 1]
    assert shares == pytest.approx(np.full(4, 1 / 4))


def test_every_length_comes_out_whole():
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 9, size=rng.integers(1, 9))
        groups = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
        shares = rng.random(len(sizes)) + 1e-3
        length = int(rng.integers(1, 200))
        order = draw_epoch(groups, shares / shares.sum(), length, rng)
        assert len(order) == length
        wanted = shares / shares.sum() * length
        got = [np.isin(order, group).sum() for group in groups]
        assert (np.abs(got - wanted) < 1 + 1e-9).all()


def test_repetitions_are_counted():
    assert count_repetitions(np.array([5, 2, 5, 5, 2, 0])).tolist() == [0, 0, 1, 2, 1, 0]
    order = np.random.default_rng(0).integers(0, 20, size=200)
    slow = [order[:i].tolist().count(place) for i, place in enumerate(order.tolist())]
    assert count_repetitions(order).tolist() == slow


def test_unknown_sampling_and_classes_that_overlap_are_refused(tmp_path):
    dataset = make_dataset(tmp_path, LABELS)
    with pytest.raises(ValueError, match="class_balance='balance' .*None, 'equal', 'square_root'"):
        plan_groups(dataset, 'balance')
    several = make_dataset(tmp_path, ['0,1', '2'], multi_hot=3)
    with pytest.raises(ValueError, match="class_balance='equal' .*multi_hot"):
        plan_groups(several, 'equal')
    assert plan_groups(several, None) is None
