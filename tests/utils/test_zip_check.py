import io
import random
import zipfile
from pathlib import Path

import pytest
import torch

from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from dsanet.utils.zip_check import check_zip


@pytest.mark.parametrize('step', [17, pytest.param(1, marks=pytest.mark.sweep)])
def test_any_flipped_bit_is_harmless_or_refused(tmp_path: Path, step: int) -> None:
    content = {'one': torch.rand(3), 'two': torch.rand(300), 'epoch': 1}
    file = tmp_path / 'x.pth'
    save_atomically(content, file)
    data = file.read_bytes()
    payload = data.index(content['two'].numpy().tobytes())
    bits = [bit for bit in range(8 * len(data)) if not payload <= bit // 8 < payload + 1200]
    bits = bits[::step] + random.Random(0).sample(range(8 * payload, 8 * (payload + 1200)), 100)
    refused = {}
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            found = read_checkpoint(file)
        except ValueError as error:
            refused[bit] = str(error)
            continue
        assert found['epoch'] == 1
        assert all(torch.equal(found[key], content[key]) for key in ('one', 'two'))
    assert refused.keys() >= {bit for bit in bits if payload <= bit // 8 < payload + 1200}
    assert all('x.pth' in text and 'weights_only' not in text for text in refused.values())


def test_folder_attribute_is_damage(tmp_path: Path) -> None:
    file = tmp_path / 'x.pth'
    torch.save({'a': torch.rand(9)}, file)
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        position = archive.start_dir
        name = next(info.filename for info in archive.infolist() if info.filename.endswith('/data/0'))
    position = data.index(name.encode(), position) - 46
    data[position + 38] ^= 0x10
    file.write_bytes(data)
    with pytest.raises(ValueError, match='data/0'):
        check_zip(file)


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_of_other_programs_are_accepted(tmp_path: Path, method: int) -> None:
    file = tmp_path / 'x.zip'
    with zipfile.ZipFile(file, 'w', method) as archive:
        archive.mkdir('folder') if hasattr(archive, 'mkdir') else archive.writestr('folder/', '')
        archive.writestr('folder/a', 'x' * 1000)
        with archive.open('b', 'w', force_zip64=True) as stream:
            stream.write(b'y' * 1000)
    assert check_zip(file) == ['folder/', 'folder/a', 'b']

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *_: int) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, 'w', method) as archive:  # with checksums and sizes after the data
        archive.writestr('a', 'x' * 1000)
    file.write_bytes(pipe.getvalue())
    assert check_zip(file) == ['a']


def test_rezipped_checkpoint_loads(tmp_path: Path) -> None:
    torch.save({'a': torch.arange(9)}, tmp_path / 'x.pth')
    with zipfile.ZipFile(tmp_path / 'x.pth') as source, zipfile.ZipFile(tmp_path / 'y.pth', 'w') as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert torch.equal(read_checkpoint(tmp_path / 'y.pth')['a'], torch.arange(9))
