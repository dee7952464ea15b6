import gzip
import io
import pickle
import tarfile
from pathlib import Path

import pytest

from dsanet.utils.file_kinds import describe_kind


def make_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('x'))
    return stream.getvalue()


@pytest.mark.parametrize(
    ('name', 'data', 'word'),
    [
        ('x.pth', b'', 'empty'),
        ('x.pth', b'\n<!DOCTYPE html>\n<html>', 'web page'),
        ('x.pth', b'<?xml version="1.0"?><Error>AccessDenied</Error>', 'XML'),
        ('x.pth', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
        ('x.pth', gzip.compress(b'x', mtime=0), 'gzip'),
        ('x.pth', make_tar(), 'tar archive'),
        ('x.pth', b'\x10' + bytes(7) + b'{"a":{"dtype":0}}' + bytes(9), 'safetensors'),
        ('x.h5', b'\x89HDF\r\n\x1a\n' + bytes(9), 'Keras'),
        ('x.pth', b'\x08\x08\x12\x07pytorch\x1a\x05' + bytes(9), 'ONNX'),
        ('model.ckpt.data-00000-of-00001', b'\x01\x02', 'TensorFlow'),
        ('x.pkl', pickle.dumps({'a': 1}), 'pickle'),
        ('x.pth', bytes(1000), 'zeros'),
        ('x.pth', b'a.mp4 0\n', 'text file'),
        ('x.pth', b'\x00\x01\xff', 'unknown'),
    ],
)
def test_kind_is_named(tmp_path: Path, name: str, data: bytes, word: str) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    assert word in describe_kind(file)
