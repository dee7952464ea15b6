"""The commands of docs/web.md."""

import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


@pytest.mark.web
def test_commands_of_the_page_run(tmp_path: Path) -> None:
    install, serve = (shlex.split(line) for line in re.findall(r'^    (\S.*)$', PAGES['docs/web.md'], re.M))
    assert install == ['python', '-m', 'pip', 'install', '-e', '.[web]']
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
    assert any(package.startswith('gradio') for package in extras['web'])
    assert serve[:2] == ['dsanet', 'web']
    (tmp_path / 'pretrained').symlink_to(ROOT / 'pretrained')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-m', 'dsanet', *serve[1:], '--port', str(port)]  # 7860 may be in use
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert server.stdout is not None
        assert any(f'http://127.0.0.1:{port}' in line for line in iter(server.stdout.readline, ''))
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=30) as page:
            assert page.status == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
    finally:
        server.kill()
        server.communicate()
    assert [file.name for file in tmp_path.iterdir()] == ['pretrained']
