import pytest
import torch

from dsanet.models.data_preprocessor import DataPreprocessor


def test_channels_are_normalized_by_their_own_mean_and_deviation() -> None:
    frames = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 1, 1, 3, 1, 1, 1)  # (N, V, U, C, T, H, W)
    out = DataPreprocessor(mean=(0, 10, 20), std=(10, 5, 2))(frames.expand(2, 1, 4, 3, 2, 5, 5))
    assert out.shape == (2, 1, 4, 3, 2, 5, 5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out[1, 0, 3, :, 1, 2, 2], torch.tensor([1.0, 2.0, 5.0]))


def test_result_is_channels_last_for_the_convolutions() -> None:
    out = DataPreprocessor()(torch.zeros(2, 1, 4, 3, 2, 5, 6, dtype=torch.uint8))
    assert out.flatten(0, 2).is_contiguous(memory_format=torch.channels_last_3d)


def test_it_has_no_weights_of_its_own() -> None:
    assert not DataPreprocessor().state_dict()


def test_frames_that_are_floats_already_are_refused() -> None:
    with pytest.raises(ValueError, match=r'frames must be uint8, got torch.float32'):
        DataPreprocessor()(torch.zeros(1, 1, 1, 3, 1, 1, 1))


def test_wrong_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match='three values each, std above 0'):
        DataPreprocessor(std=(1, 1, 0))
