import argparse
import errno
import logging
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from dsanet.models.weights.loading import load_weights
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from tests.models.weights.test_loading import make_model


def save(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file


def test_failed_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'epoch_1.pth'
    save_atomically({'epoch': 1}, file)

    def half_a_write(content: object, stream: object) -> None:
        stream.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', half_a_write)
    with pytest.raises(OSError, match='disk full'):
        save_atomically({'epoch': 2}, file)
    assert read_checkpoint(file) == {'epoch': 1}


@pytest.mark.parametrize('share', [0.1, 0.3, 0.5, 0.7, 0.9])
def test_flipped_bit_is_detected(tmp_path: Path, share: float) -> None:
    file = tmp_path / 'x.pth'
    save_atomically({'weight': torch.rand(1000), 'other': torch.rand(3000)}, file)
    assert read_checkpoint(file).keys() == {'weight', 'other'}
    content = bytearray(file.read_bytes())
    content[int(share * len(content))] ^= 4
    file.write_bytes(content)
    with pytest.raises(ValueError, match='x.pth.*damaged'):
        read_checkpoint(file)


class _Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ('touch hacked',)


@pytest.mark.parametrize('data', [b'', b'<html>not found</html>', pickle.dumps(_Hostile(), protocol=2)])
def test_foreign_files_are_rejected_and_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / 'x.pth'
    file.write_bytes(data)
    with pytest.raises(ValueError, match='x.pth'):
        read_checkpoint(file)
    save({'state_dict': _Hostile()}, file)
    with pytest.raises(ValueError, match='x.pth.*system'):
        read_checkpoint(file)
    assert not (tmp_path / 'hacked').exists()


def save_with_code(content: dict, file: Path) -> Path:
    """Save weights with an object that is not a plain type, as training scripts do with their arguments."""
    return save({**content, 'args': argparse.Namespace(lr=0.1)}, file)


def test_file_with_objects_is_rejected_naming_the_flag(tmp_path: Path) -> None:
    file = save_with_code({'state_dict': make_model().state_dict()}, tmp_path / 'x.pth')
    text = rf'argparse.Namespace.*`dsanet convert {file} NEW.pth --allow-pickle`'
    for read in (read_checkpoint, lambda f: load_weights(make_model(), f)):
        with pytest.raises(ValueError, match=text):
            read(file)


def test_allow_pickle_reads_objects_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model()
    file = save_with_code({'state_dict': model.state_dict()}, tmp_path / 'x.pth')
    with caplog.at_level(logging.WARNING, 'dsanet'):
        report = load_weights(make_model(), file, strict=True, allow_pickle=True)
    assert len(report.matched) == len(model.state_dict())
    assert re.search('argparse.Namespace.*--allow-pickle|--allow-pickle.*argparse.Namespace', caplog.text)
    caplog.clear()
    plain = save(model.state_dict(), tmp_path / 'plain.pth')
    load_weights(make_model(), plain, allow_pickle=True)
    assert 'allow-pickle' not in caplog.text


class _Unreadable:
    def __reduce__(self) -> tuple:
        return int, ('no number',)


def test_failing_pickle_code_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'x.pth.*--allow-pickle.*ValueError\(.*no number'):
        read_checkpoint(save({'state_dict': _Unreadable()}, tmp_path / 'x.pth'), allow_pickle=True)
    (tmp_path / 'y.pth').write_bytes(b'<html>not found</html>')
    with pytest.raises(ValueError, match='y.pth'):
        read_checkpoint(tmp_path / 'y.pth', allow_pickle=True)


def test_missing_file_and_wrong_content_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'/x.pth'):
        read_checkpoint(tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='y.pth.*list'):
        read_checkpoint(save([1], tmp_path / 'y.pth'))


def test_text_file_error_hides_torchs_advice(tmp_path: Path) -> None:
    (tmp_path / 'x.txt').write_text('a.mp4 0\n')
    with pytest.raises(ValueError, match=r'x\.txt') as caught:
        read_checkpoint(tmp_path / 'x.txt')
    assert 'weights_only' not in str(caught.value)


@pytest.mark.parametrize(
    ('fault', 'kind'),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MemoryError),
        (MemoryError(), MemoryError),
        (RuntimeError('Open file failed with strerror: Too many open files'), OSError),
        (OSError(errno.EIO, 'Input/output error'), OSError),
        (PermissionError(errno.EACCES, 'Permission denied'), PermissionError),
    ],
)
def test_machine_fault_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type
) -> None:
    file = save({'a': torch.rand(2)}, tmp_path / 'x.pth')

    def fail(*_: object, **__: object) -> None:
        raise fault

    for place, name in ((torch, 'load'), (zipfile.ZipFile, 'open')):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            with pytest.raises(kind, match='x.pth'):
                read_checkpoint(file)


@pytest.mark.parametrize('file', ['https://x.org/a.pth', Path('https://x.org/a.pth'), 's3://x/a.pth'])
def test_url_is_refused_as_such(file: str | Path) -> None:
    with pytest.raises(ValueError, match='URL'):
        read_checkpoint(file)


def test_zip_without_weights_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as archive:
        archive.writestr('weights/model.bin', b'x')
    with pytest.raises(ValueError, match=r'zip archive.*weights/model\.bin'):
        read_checkpoint(tmp_path / 'x.pth')
    with zipfile.ZipFile(tmp_path / 'y.pth', 'w') as archive:
        archive.writestr('y/data.pkl', b'x')
        archive.writestr('y/constants.pkl', b'x')
    with pytest.raises(ValueError, match='TorchScript'):
        read_checkpoint(tmp_path / 'y.pth')


def test_formats_of_old_torch_versions_load(tmp_path: Path) -> None:
    torch.save({'a': torch.arange(9)}, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / 'x.pth')['a'], torch.arange(9))
    for zipped in (True, False):
        options = {'pickle_protocol': 4, '_use_new_zipfile_serialization': zipped}
        torch.save({'a': torch.arange(9)}, tmp_path / 'x.pth', **options)
        with pytest.raises(ValueError, match='--allow-pickle') as caught:
            read_checkpoint(tmp_path / 'x.pth')
        assert 'weights_only' not in str(caught.value)
        assert torch.equal(read_checkpoint(tmp_path / 'x.pth', allow_pickle=True)['a'], torch.arange(9))


def test_pickled_module_gives_its_weights(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    for content in (model, {'model': model, 'epoch': 1}):
        file = save(content, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match='torch.nn.modules.linear.Linear.*--allow-pickle'):
            read_checkpoint(file)
        found = read_checkpoint(file, allow_pickle=True)
        state = found['state_dict' if content is model else 'model']
        assert state.keys() == {'weight', 'bias'}
        assert torch.equal(state['weight'], model.weight)
