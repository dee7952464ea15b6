import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from dsanet.models.weights.loading import load_weights
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.safetensors_io import write_safetensors
from tests.models.weights.test_loading import make_model

CONTENT = {'class_names': ['ü', '"dsanet_sha256":"'], 'config': {'model': {'blocks': (0, 1)}, 'lr': 0.1, 'file': None}}


def write(file: Path) -> Path:
    large = torch.arange(60.0)
    state = {'b': large, 'a': large[:20], 'count': torch.tensor(3), 'half': torch.ones(2, 3).half()}
    write_safetensors({'state_dict': state, **CONTENT}, file)
    return file


def test_checkpoint_returns_with_lists_for_tuples(tmp_path: Path) -> None:
    content = read_checkpoint(write(tmp_path / 'x.safetensors'))
    state = content.pop('state_dict')
    assert content == {**CONTENT, 'config': {'model': {'blocks': [0, 1]}, 'lr': 0.1, 'file': None}}
    assert list(state) == ['a', 'b', 'count', 'half']
    assert torch.equal(state['a'], torch.arange(20.0))
    assert torch.equal(state['b'], torch.arange(60.0))
    assert [state[key].dtype for key in ('a', 'count', 'half')] == [torch.float32, torch.int64, torch.float16]


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / 'x.safetensors')
    with safe_open(file, 'pt') as opened:
        assert set(opened.keys()) == {'a', 'b', 'count', 'half'}
        assert json.loads(opened.metadata()['dsanet'])['class_names'] == CONTENT['class_names']
        assert opened.metadata()['format'] == 'pt'
    assert file.read_bytes() == write(tmp_path / 'y.safetensors').read_bytes()


def test_flipped_bits_and_truncation_are_detected(tmp_path: Path) -> None:
    file = write(tmp_path / 'x.safetensors')
    data = file.read_bytes()
    damaged = tmp_path / 'y.safetensors'
    for bit in range(0, 8 * len(data), 41):
        content = bytearray(data)
        content[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match='y.safetensors'):
            read_checkpoint(damaged)
    for length in (0, 5, 9, 100, len(data) - 1):
        damaged.write_bytes(data[:length])
        with pytest.raises(ValueError, match='y.safetensors'):
            read_checkpoint(damaged)


def test_file_of_another_project_is_its_tensors(tmp_path: Path) -> None:
    model = make_model()
    state = {f'module.{key}': value.half() for key, value in model.state_dict().items()}
    for name in ('x.safetensors', 'without_suffix'):
        safetensors.torch.save_file(state, tmp_path / name, metadata={'format': 'pt', 'sha256': 'other'})
        assert read_checkpoint(tmp_path / name).keys() == state.keys()
        loaded = make_model()
        load_weights(loaded, tmp_path / name, strict=True)
        for key, value in loaded.state_dict().items():
            assert value.dtype == model.state_dict()[key].dtype
            assert torch.equal(value, state[f'module.{key}'].to(value.dtype))


@pytest.mark.parametrize(('data', 'kind'), [(b'', 'empty'), (b'<html>not found</html>', 'HTML'), (b'PK\3\4', 'type')])
def test_other_kind_of_file_is_named(tmp_path: Path, data: bytes, kind: str) -> None:
    file = tmp_path / 'x.safetensors'
    file.write_bytes(data)
    with pytest.raises(ValueError, match=f'x.safetensors.*{kind}'):
        read_checkpoint(file)


def test_file_with_foreign_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'x.safetensors'
    for metadata in ({'dsanet': '{}'}, {'dsanet_sha256': '0' * 64}, {'dsanet': '[]', 'dsanet_sha256': ''}):
        safetensors.torch.save_file({'a': torch.ones(1)}, file, metadata=metadata)
        with pytest.raises(ValueError, match='x.safetensors'):
            read_checkpoint(file)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / 'x.safetensors')
    data = file.read_bytes()

    def fail(_: int) -> None:
        raise OSError('disk full')

    monkeypatch.setattr('os.fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        write_safetensors({'state_dict': {'a': torch.ones(1)}}, file)
    assert file.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ['x.safetensors']
