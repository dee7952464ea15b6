"""The download script against a server on this machine."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torchvision

SCRIPT = Path(__file__).parents[1] / 'pretrained' / 'download_imgnet.sh'
DATA = bytes(range(256)) * 800
NAME = f'tiny-{hashlib.sha256(DATA).hexdigest()[:8]}.pth'

pytestmark = pytest.mark.skipif(shutil.which('curl') is None, reason='needs curl')


class Server(ThreadingHTTPServer):
    """Serves ``files``; closes the connection after ``cut`` bytes."""

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.files = {NAME: DATA}
        self.takes_ranges = True
        self.cut: int | None = None
        self.answers: list[tuple[int, int]] = []  # status and bytes promised

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path.removeprefix('/'))
        if data is None:
            self.answer(404, b'')
            return
        wanted = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        if wanted is None or not self.server.takes_ranges:
            self.answer(200, data)
        elif int(wanted[1]) >= len(data):
            self.answer(416, b'', f'bytes */{len(data)}')
        else:
            start = int(wanted[1])
            self.answer(206, data[start:], f'bytes {start}-{len(data) - 1}/{len(data)}')

    def answer(self, status: int, body: bytes, content_range: str | None = None) -> None:
        self.server.answers.append((status, len(body)))
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        if content_range is not None:
            self.send_header('Content-Range', content_range)
        self.end_headers()
        self.wfile.write(body[: self.server.cut])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script, which downloads into its own folder."""
    folder = tmp_path / 'pretrained'
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    return folder


Download = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def download(server: Server, folder: Path) -> Download:
    def download(*models: str, **environment: str) -> subprocess.CompletedProcess:
        addresses = {'TORCHVISION_URL': server.url, 'MVFNET_URL': server.url, 'no_proxy': '127.0.0.1'}
        command = ['bash', str(folder / SCRIPT.name), *models]
        environment = {**os.environ, **addresses, **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return download


def files(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name != SCRIPT.name}


def test_file_is_downloaded_once(server: Server, folder: Path, download: Download) -> None:
    done = download(NAME)
    assert done.returncode == 0, done.stderr
    assert f'pretrained/{NAME}' in done.stdout
    assert files(folder) == {NAME: DATA}
    assert f'pretrained/{NAME}' in download(NAME).stdout
    assert server.answers == [(200, len(DATA))]


def test_interrupted_download_resumes(server: Server, folder: Path, download: Download) -> None:
    server.cut = 70_000
    broken = download(NAME)
    assert broken.returncode == 1
    assert f'{server.url}/{NAME}' in broken.stderr
    assert files(folder) == {f'{NAME}.part': DATA[:70_000]}
    server.cut = None
    assert download(NAME).returncode == 0
    assert files(folder) == {NAME: DATA}
    assert server.answers == [(200, len(DATA)), (206, len(DATA) - 70_000)]


def test_complete_part_is_not_downloaded_again(server: Server, folder: Path, download: Download) -> None:
    (folder / f'{NAME}.part').write_bytes(DATA)
    assert download(NAME).returncode == 0
    assert files(folder) == {NAME: DATA}
    assert server.answers == []


def test_server_without_ranges_restarts_the_download(server: Server, folder: Path, download: Download) -> None:
    server.takes_ranges = False
    (folder / f'{NAME}.part').write_bytes(DATA[:70_000])
    done = download(NAME)
    assert done.returncode == 0, done.stderr
    assert f'{server.url}/{NAME}' in done.stdout
    assert files(folder) == {NAME: DATA}


@pytest.mark.parametrize('takes_ranges', [True, False])
@pytest.mark.parametrize('length', [10, len(DATA), len(DATA) + 5])
def test_part_of_another_file_restarts_the_download(
    server: Server, folder: Path, download: Download, takes_ranges: bool, length: int
) -> None:
    server.takes_ranges = takes_ranges
    (folder / f'{NAME}.part').write_bytes(b'x' * length)
    done = download(NAME)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    assert files(folder) == {NAME: DATA}


def test_wrong_checksum_removes_the_file(server: Server, folder: Path, download: Download) -> None:
    server.files[NAME] = DATA + b'!'
    done = download(NAME)
    assert done.returncode == 1
    assert re.search(rf'{NAME}\b.*{NAME[5:13]}\.\.\.', done.stderr)
    assert files(folder) == {}
    (folder / NAME).write_bytes(b'damaged later')
    again = download(NAME)
    assert again.returncode == 1
    assert f'pretrained/{NAME}' in again.stderr


def test_missing_file_keeps_the_part(server: Server, folder: Path, download: Download) -> None:
    server.files.clear()
    (folder / f'{NAME}.part').write_bytes(DATA[:10])
    done = download(NAME)
    assert done.returncode == 1
    assert '404' in done.stderr
    assert files(folder) == {f'{NAME}.part': DATA[:10]}


def test_checksum_of_first_mvfnet_download_is_kept(server: Server, folder: Path, download: Download) -> None:
    server.files['resnet50.pth'] = DATA
    checksum = hashlib.sha256(DATA).hexdigest()
    done = download('mvfnet50')
    assert done.returncode == 0, done.stderr
    assert checksum in done.stdout
    assert files(folder) == {'resnet50.pth': DATA, 'resnet50.pth.sha256': f'{checksum}  resnet50.pth\n'.encode()}
    assert download('mvfnet50').returncode == 0

    (folder / 'resnet50.pth').unlink()
    server.files['resnet50.pth'] = DATA + b'!'
    done = download('mvfnet50')
    assert checksum in done.stderr
    assert files(folder).keys() == {'resnet50.pth.sha256'}


def test_given_checksum_is_checked(server: Server, folder: Path, download: Download) -> None:
    server.files['resnet101.pth'] = DATA
    wrong = download('mvfnet101', MVFNET101_SHA256='0' * 64)
    assert '0' * 64 in wrong.stderr
    assert 'SHA-256' in download('mvfnet101', MVFNET101_SHA256='0' * 8).stderr
    assert files(folder) == {}
    done = download('mvfnet101', MVFNET101_SHA256=hashlib.sha256(DATA).hexdigest().upper())
    assert done.returncode == 0, done.stderr
    assert files(folder) == {'resnet101.pth': DATA}


def test_models_are_listed_and_unknown_ones_rejected(server: Server, folder: Path, download: Download) -> None:
    listed = download()
    assert listed.returncode == 0
    for word in ('18 34 50 101 152', '50-v2', 'mvfnet101', 'TORCHVISION_URL', 'MVFNET50_SHA256'):
        assert word in listed.stdout
    for model in ('51', 'resnet50.pth', f'../{NAME}'):
        done = download(NAME, model)
        assert done.returncode == 1
        assert model in done.stderr
    assert files(folder) == {}
    assert server.answers == []


@pytest.mark.skipif(shutil.which('wget') is None, reason='needs wget')
@pytest.mark.parametrize('takes_ranges', [True, False])
def test_wget_is_used_without_curl(
    server: Server, folder: Path, download: Download, tmp_path: Path, takes_ranges: bool
) -> None:
    tools = tmp_path / 'bin'
    tools.mkdir()
    for name in ('bash', 'wget', 'dirname', 'cut', 'sha256sum', 'mv', 'rm'):
        (tools / name).symlink_to(shutil.which(name))
    server.takes_ranges = takes_ranges
    (folder / f'{NAME}.part').write_bytes(DATA[:70_000])
    done = download(NAME, PATH=str(tools))
    assert done.returncode == 0, done.stderr
    assert files(folder) == {NAME: DATA}
    assert server.answers[0] == ((206, len(DATA) - 70_000) if takes_ranges else (200, len(DATA)))
    (tools / 'wget').unlink()
    (folder / NAME).unlink()
    assert re.search('curl.*wget', download(NAME, PATH=str(tools)).stderr)


def test_file_names_match_torchvision_and_readme() -> None:
    text, readme = SCRIPT.read_text(), SCRIPT.with_name('README.md').read_text()
    for depth in (18, 34, 50, 101, 152):
        weights = torchvision.models.get_model_weights(f'resnet{depth}')
        for version, suffix in (('IMAGENET1K_V1', ''), ('IMAGENET1K_V2', '-v2')):
            if version not in weights.__members__:
                continue
            address, _, name = weights[version].url.rpartition('/')
            assert re.search(rf'^ +{depth}{suffix}\) echo {re.escape(name)} ;;$', text, re.MULTILINE)
            assert f'| `{depth}{suffix}` | `{name}` |' in readme
            assert f'TORCHVISION_URL:-{address}' in text
