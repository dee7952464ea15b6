import pytest
import torch

from dsanet.models.data_preprocessor import DataPreprocessor


def test_channels_are_normalized_separately() -> None:
    frames = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 1, 1, 3, 1, 1, 1)  # (N, V, U, C, T, H, W)
    out = DataPreprocessor(mean=(0, 10, 20), std=(10, 5, 2))(frames.expand(2, 1, 4, 3, 2, 5, 5))
    assert out.shape == (2, 1, 4, 3, 2, 5, 5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out[1, 0, 3, :, 1, 2, 2], torch.tensor([1.0, 2.0, 5.0]))


def test_output_is_channels_last() -> None:
    out = DataPreprocessor()(torch.zeros(2, 1, 4, 3, 2, 5, 6, dtype=torch.uint8))
    assert out.flatten(0, 2).is_contiguous(memory_format=torch.channels_last_3d)


def test_state_dict_is_empty() -> None:
    assert not DataPreprocessor().state_dict()


def test_float_frames_raise() -> None:
    with pytest.raises(ValueError, match=r'uint8.*torch\.float32'):
        DataPreprocessor()(torch.zeros(1, 1, 1, 3, 1, 1, 1))


def test_invalid_std_raises() -> None:
    with pytest.raises(ValueError, match=r'std=\(1, 1, 0\)'):
        DataPreprocessor(std=(1, 1, 0))
