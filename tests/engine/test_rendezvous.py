import logging
import re
import socket
import sys

import pytest

from dsanet.engine.rendezvous import find_interface, open_store


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return int(server.getsockname()[1])


def test_unreachable_machine_0_is_reported_and_times_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    port = free_port()
    address = f'MASTER_ADDR=127.0.0.1 PORT={port}'
    with pytest.raises(TimeoutError, match=f'{address}.*JOIN_TIMEOUT=1 .*Connection refused'):
        open_store('127.0.0.1', port, is_host=False, join_timeout=1)
    assert len(caplog.messages) == 1
    assert re.search(rf'\b1 .*{address}.*Connection refused', caplog.messages[0])


def test_port_in_use_is_rejected() -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f'PORT={port} '):
            open_store('127.0.0.1', port, is_host=True, join_timeout=1)


def test_interface_is_found_by_address() -> None:
    if sys.platform == 'linux':
        assert find_interface('127.0.0.1') == 'lo'
    assert find_interface('192.0.2.1') is None
    assert find_interface('::1') is None
