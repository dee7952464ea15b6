import os
import time
from pathlib import Path

import pytest

from dsanet.web.uploads import Uploads


def put(uploads: Uploads, name: str, content: bytes = b'abc') -> Path:
    file = uploads.folder / 'hash' / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


def test_open_file_outlives_its_upload() -> None:
    with Uploads() as uploads:
        file = put(uploads, 'a.mp4')
        with uploads.open(str(file)) as link:
            file.unlink()
            assert (link.name, link.read_bytes()) == ('a.mp4', b'abc')
        assert not link.exists()
        with pytest.raises(FileNotFoundError, match=r'a\.mp4'), uploads.open(str(file)):
            pass
    assert not uploads.folder.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'secret.mp4').write_bytes(b'x')
    with Uploads() as uploads:
        link = uploads.folder / 'link.mp4'
        link.symlink_to(tmp_path / 'secret.mp4')
        outside = f'{uploads.folder}/../../secret.mp4'
        for path in (str(tmp_path / 'secret.mp4'), outside, str(link), str(put(uploads, 'a.txt'))):
            with pytest.raises(ValueError, match=Path(path).name), uploads.open(path):
                pass


def test_old_uploads_are_removed_by_themselves() -> None:
    with Uploads(max_age=10) as uploads:
        old, new = put(uploads, 'old.mp4'), put(uploads, 'new.mp4')
        os.utime(old, (time.time() - 20,) * 2)
        deadline = time.monotonic() + 10
        while old.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (old.exists(), new.exists()) == (False, True)
