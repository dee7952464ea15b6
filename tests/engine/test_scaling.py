"""Estimates for many GPUs, against numbers computed by hand."""

from dataclasses import replace

import pytest

from dsanet.engine.scaling import TRAINING_VIDEOS, Parts, all_reduce_bytes, all_reduce_s, estimate, exposed_s

PARTS = Parts(
    step_s=0.3,
    batch_size=8,
    decode_s=0.15,
    video_bytes=1e6,
    gradient_bytes=100 * 2**20,
    network_bytes_s=10e9,
    link_bytes_s=100e9,
    storage_bytes_s=1e9,
    cores=50,
)


def test_numbers_of_training_videos() -> None:
    assert TRAINING_VIDEOS == {'Kinetics-400': 246_245, 'Kinetics-700': 545_317}


@pytest.mark.parametrize(('members', 'expected'), [(1, 0), (2, 1000), (8, 1750), (256, 1992.1875)])
def test_bytes_of_a_ring_all_reduce(members: int, expected: float) -> None:
    assert all_reduce_bytes(1000, members) == expected


def test_ring_counts_its_slowest_link() -> None:
    assert all_reduce_s(PARTS, 8) == pytest.approx(1.75 * 104_857_600 / 100e9)
    assert all_reduce_s(PARTS, 16) == pytest.approx(1.875 * 104_857_600 / 10e9)


def test_last_bucket_is_not_hidden() -> None:
    # 1.875 x 104.8576 MB / 10 GB/s = 19.6608 ms, of which the last of four buckets is a quarter.
    assert exposed_s(PARTS, 16) == pytest.approx(4.9152e-3)


def test_slow_network_exceeds_the_backward_pass() -> None:
    # 1.875 x 104.8576 MB / 0.5 GB/s = 393.216 ms, minus 200 ms of backward
    assert exposed_s(replace(PARTS, network_bytes_s=0.5e9), 16) == pytest.approx(0.193216)


def test_one_gpu_waits_for_nothing() -> None:
    run = estimate(PARTS, 1)
    assert run.exposed_s == 0
    assert run.iteration_s == 0.3
    assert run.videos_per_s == pytest.approx(8 / 0.3)
    assert run.cores_needed == pytest.approx(8 * 0.15 / 0.3)
    assert run.epoch_s(1000) == pytest.approx(1000 * 0.3 / 8)


def test_limits_of_two_machines() -> None:
    run = estimate(PARTS, 16)
    busy = 0.3 + 4.9152e-3
    assert run.machines == 2
    assert run.limits == pytest.approx(
        {
            'GPUs': busy,
            'CPU cores': 64 * 0.15 / 50,
            'storage': 128e6 / 1e9,
            'network': (64e6 + 1.875 * 104_857_600) / 10e9,
        }
    )
    assert run.cores_needed == pytest.approx(64 * 0.15 / busy)
    assert run.read_bytes_s == pytest.approx(128e6 / busy)
    assert run.network_bytes_s == pytest.approx((64e6 + 196_608_000) / busy)


@pytest.mark.parametrize(
    ('change', 'gpus', 'expected'),
    [
        ({}, 8, 'GPUs'),
        ({'cores': 10}, 8, 'CPU cores'),
        ({'cores': None, 'decode_s': 100.0}, 8, 'GPUs'),
        ({}, 64, 'storage'),
        ({'storage_bytes_s': 1e12, 'network_bytes_s': 0.1e9, 'gradient_bytes': 1.0}, 64, 'network'),
    ],
)
def test_bottleneck_is_the_slowest_part(change: dict[str, float], gpus: int, expected: str) -> None:
    run = estimate(replace(PARTS, **change), gpus)  # type: ignore[arg-type]
    assert run.bottleneck == expected
    assert run.iteration_s == run.limits[expected]


def test_impossible_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match='step_s=0'):
        replace(PARTS, step_s=0)
    with pytest.raises(ValueError, match='gpus=12'):
        estimate(PARTS, 12)
