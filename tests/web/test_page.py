"""The page in headless Chromium, with the server in a process of its own."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import open_chromium
from tests.make_recognizer import make_recognizer, save_recognizer
from tests.make_videos import write_video

# Notes connections to other machines.
SERVER = """
import sys
def note(event, arguments):
    if event == 'socket.connect' and isinstance(arguments[1], tuple) and arguments[1][0] not in ('127.0.0.1', '::1'):
        open(sys.argv[1], 'a').write(f'{arguments[1]}\\n')
sys.addaudithook(note)
from dsanet.commands import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope='module')
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_recognizer(make_recognizer(), folder / 'best.pth')
        write_video(folder / 'a.mp4', 60)
        write_video(folder / 'b.mp4', 130)
        (folder / 'text.mp4').write_text('hello')
        (folder / 'cut.mp4').write_bytes((folder / 'a.mp4').read_bytes()[:2000])
        (folder / 'large.mp4').write_bytes(b'0' * 1_100_000)
        (folder / 'tmp').mkdir()
        yield folder


@pytest.fixture(scope='module')
def url(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    arguments = ['web', str(folder / 'best.pth'), '--port', str(port), '--max-size', '1']
    server = subprocess.Popen(
        [sys.executable, '-c', SERVER, str(folder / 'connections'), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={'PATH': '/usr/bin', 'TMPDIR': str(folder / 'tmp'), 'HOME': str(folder), 'OMP_NUM_THREADS': '1'},
    )
    try:
        assert server.stdout is not None
        assert any(f'http://127.0.0.1:{port}' in line for line in iter(server.stdout.readline, ''))
        yield f'http://127.0.0.1:{port}'
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
        assert list((folder / 'tmp').glob('dsanet-web-*')) == []
        assert not (folder / 'connections').exists(), 'nothing but this machine is connected to'
    finally:
        server.kill()
        server.communicate()


def open_browser(url: str) -> Any:
    browser = open_chromium('performance')
    browser.get(url)
    return browser


@pytest.fixture
def browser(url: str) -> Iterator[Any]:
    browser = open_browser(url)
    yield browser
    browser.quit()


def find(browser: Any, selector: str, text: str = '') -> Any:
    """Return the first element with a text, as soon as it exists."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = browser.execute_script(
            'return [...document.querySelectorAll(arguments[0])].find(e => e.textContent.includes(arguments[1]))',
            selector,
            text,
        )
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f'{selector} with {text!r} does not appear')


def upload(browser: Any, file: Path) -> None:
    find(browser, '#video input[type=file]').send_keys(str(file))


@pytest.mark.web
def test_upload_shows_result_from_this_machine_only(browser: Any, folder: Path, url: str) -> None:
    upload(browser, folder / 'a.mp4')
    find(browser, '#result', 'a.mp4')
    assert browser.execute_script('return document.querySelectorAll("#result .bars .name").length') == 5
    assert not browser.execute_script('return document.querySelectorAll("#result .curve").length')
    assert browser.execute_script('return document.querySelectorAll("#maps img").length') == 4
    assert browser.execute_script('return document.querySelectorAll("#kernels svg").length') == 2
    wide = 'return [...document.images].filter(image => !image.naturalWidth).length'
    assert browser.execute_script(wide) == 0, 'all pictures are shown'
    upload(browser, folder / 'b.mp4')
    find(browser, '#result', 'b.mp4')
    find(browser, '#result svg.curve')
    for entry in browser.get_log('performance'):
        message = json.loads(entry['message'])['message']
        if message['method'] == 'Network.requestWillBeSent':
            address = message['params']['request']['url']
            assert address.startswith((url, 'data:', 'blob:')), address


@pytest.mark.web
@pytest.mark.parametrize('name', ['text.mp4', 'cut.mp4'])
def test_broken_video_shows_a_message(name: str, browser: Any, folder: Path) -> None:
    upload(browser, folder / name)
    find(browser, '#result .error', name)
    upload(browser, folder / 'a.mp4')
    find(browser, '#result', 'a.mp4')


@pytest.mark.web
def test_too_large_file_is_not_stored(browser: Any, folder: Path) -> None:
    upload(browser, folder / 'large.mp4')
    find(browser, 'body', 'maximum allowed size')
    assert list((folder / 'tmp').rglob('large.mp4')) == []


@pytest.mark.web
def test_two_users_get_their_own_results(browser: Any, folder: Path, url: str) -> None:
    other = open_browser(url)
    try:
        for _ in range(2):
            upload(browser, folder / 'a.mp4')
            upload(other, folder / 'b.mp4')
            find(browser, '#result', 'a.mp4')
            find(other, '#result', 'b.mp4')
            assert 'b.mp4' not in find(browser, '#result').text
    finally:
        other.quit()


@pytest.mark.web
def test_uploads_are_removed_after_a_minute(browser: Any, folder: Path) -> None:
    upload(browser, folder / 'a.mp4')
    find(browser, '#result', 'a.mp4')
    deadline = time.monotonic() + 90
    while (left := list((folder / 'tmp').rglob('*.mp4'))) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
