import pytest
import torch
from torch import Tensor

from dsanet.models.batch_augment import MixupCutmix
from dsanet.models.data_preprocessor import DataPreprocessor

SHAPE = (4, 2, 3, 3, 2, 8, 10)  # (N, V, U, C, T, H, W)


def constant_videos() -> Tensor:
    """Each value of a video is its number, so a mixed value shows which videos it comes from."""
    return torch.arange(4.0).reshape(4, 1, 1, 1, 1, 1, 1).expand(SHAPE).clone()  # (N, V, U, C, T, H, W)


LABEL = torch.tensor([2, 0, 1, 4])


def test_mixup_shares_of_frames_and_labels_agree() -> None:
    """Each value is a mean of a video and its neighbor, weighted as the label."""
    augment = MixupCutmix(cutmix_alpha=0)
    seen = set()
    for _ in range(20):
        frames, label = augment(constant_videos(), LABEL, 5)
        assert frames.shape == SHAPE
        assert label.shape == (4, 5)
        torch.testing.assert_close(label.sum(1), torch.ones(4))
        for n in range(4):
            share = label[n, LABEL[n]].item()
            assert label[n, LABEL[n - 1]].item() == pytest.approx(1 - share, abs=1e-6)
            expected = share * n + (1 - share) * ((n - 1) % 4)
            torch.testing.assert_close(frames[n], torch.full(SHAPE[1:], expected), rtol=1e-5, atol=1e-5)
        seen.add(round(label[0, LABEL[0]].item(), 4))
    assert len(seen) > 10


def test_cutmix_label_share_is_the_pixel_share() -> None:
    augment = MixupCutmix(mixup_alpha=0)
    cut = 0
    for _ in range(30):
        frames, label = augment(constant_videos(), LABEL, 5)
        torch.testing.assert_close(label.sum(1), torch.ones(4))
        for n in range(4):
            own = frames[n] == n
            assert (own | (frames[n] == (n - 1) % 4)).all()
            assert label[n, LABEL[n]].item() == pytest.approx(own.float().mean().item(), abs=1e-6)
        cut += 0.0 < own.float().mean() < 1.0
    assert cut > 10


def test_cutmix_box_is_the_same_everywhere() -> None:
    augment = MixupCutmix(mixup_alpha=0)
    boxes = 0
    for _ in range(10):
        frames, _ = augment(constant_videos(), LABEL, 5)
        foreign = frames != constant_videos()
        first = foreign[0, 0, 0, 0, 0]
        assert torch.equal(foreign, first.expand(SHAPE))
        if first.any():
            rows, columns = first.any(1).nonzero().flatten(), first.any(0).nonzero().flatten()
            assert int(first.sum()) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            boxes += 1
    assert boxes > 3


def test_cutmix_keeps_pixel_positions() -> None:
    frames = torch.randn(SHAPE)
    mixed, _ = MixupCutmix(mixup_alpha=0)(frames, LABEL, 5)
    rolled = frames[[3, 0, 1, 2]]
    assert ((mixed == frames) | (mixed == rolled)).all()
    assert (mixed != frames).any()


def test_mixup_or_cutmix_is_drawn() -> None:
    augment = MixupCutmix()
    kinds = {'mixup': 0, 'cutmix': 0}
    for _ in range(40):
        frames, _ = augment(constant_videos(), LABEL, 5)
        whole = (frames == frames.round()).all()
        kinds['cutmix' if whole else 'mixup'] += 1
    assert min(kinds.values()) > 8


@pytest.mark.parametrize(('options', 'low', 'high'), [({'mixup_alpha': 50.0}, 0.3, 0.7), ({'mixup_alpha': 0.01}, 0, 1)])
def test_mixup_alpha_controls_the_shares(options: dict, low: float, high: float) -> None:
    augment = MixupCutmix(cutmix_alpha=0, **options)
    shares = torch.tensor([augment(constant_videos(), LABEL, 5)[1][0, 2].item() for _ in range(20)])
    assert ((shares >= low) & (shares <= high)).all()
    if low == 0:
        assert (torch.minimum(shares, 1 - shares) < 0.05).float().mean() > 0.7


def test_prob_is_the_share_of_mixed_batches() -> None:
    augment = MixupCutmix(cutmix_alpha=0, prob=0.3)
    frames = constant_videos()
    plain = 0
    for _ in range(200):
        mixed, label = augment(frames, LABEL, 5)
        if mixed is frames:
            assert torch.equal(label, torch.nn.functional.one_hot(LABEL, 5).float())
            plain += 1
    assert 0.6 < plain / 200 < 0.8


def test_soft_labels_are_mixed() -> None:
    weights = torch.rand(4, 5).softmax(1)
    before = weights.clone()
    _, label = MixupCutmix(cutmix_alpha=0)(constant_videos(), weights, 5)
    shares = ((label - weights.roll(1, 0)) / (weights - weights.roll(1, 0))).mean()
    torch.testing.assert_close(label, shares * weights + (1 - shares) * weights.roll(1, 0))
    assert torch.equal(weights, before)


def test_draws_follow_the_torch_seed() -> None:
    augment = MixupCutmix()
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(augment(torch.ones(SHAPE) * torch.arange(4.0).reshape(4, 1, 1, 1, 1, 1, 1), LABEL, 5))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][1], results[2][1])


def test_works_when_built_on_meta_device() -> None:
    with torch.device('meta'):
        augment = MixupCutmix()
    _, label = augment(constant_videos(), LABEL, 5)
    torch.testing.assert_close(label.sum(1), torch.ones(4))


@pytest.mark.parametrize('options', [{'cutmix_alpha': 0}, {'mixup_alpha': 0}])
def test_memory_format_does_not_change_the_values(options: dict) -> None:
    frames = torch.randn(SHAPE)
    last = frames.movedim(-4, -1).contiguous().movedim(-1, -4)  # as the data preprocessor yields them
    assert last.stride() != frames.stride()
    before = last.clone()
    results = []
    for x in (frames, last):
        torch.manual_seed(3)
        results.append(MixupCutmix(**options)(x, LABEL, 5))
        assert not torch.equal(results[-1][0], x)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(last, before)


@pytest.mark.parametrize('options', [{'cutmix_alpha': 0}, {'mixup_alpha': 0}])
@pytest.mark.parametrize('shape', [SHAPE, (4, 1, 1, 3, 1, 8, 10)])
def test_mixed_frames_stay_channels_last(options: dict, shape: tuple[int, ...]) -> None:
    frames = DataPreprocessor()(torch.randint(256, shape, dtype=torch.uint8))
    torch.manual_seed(3)
    mixed, _ = MixupCutmix(**options)(frames, LABEL, 5)
    assert not torch.equal(mixed, frames)
    assert type(mixed) is Tensor
    assert mixed.stride() == frames.stride()
    assert mixed.flatten(0, 2).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'mixup_alpha': 0, 'cutmix_alpha': 0}, r'mixup_alpha=0\b.*cutmix_alpha=0'),
        ({'mixup_alpha': -1.0}, 'mixup_alpha=-1.0'),
        ({'prob': 0.0}, r'prob=0.0 .*\(0, 1\]'),
        ({'prob': 1.1}, r'prob=1.1 .*\(0, 1\]'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MixupCutmix(**options)
