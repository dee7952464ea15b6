"""How the nodes of a run find each other: addresses, the store on node 0, and torch's rendezvous on top of it."""

import errno
import logging
import socket
import struct
import sys
import threading
import time
from datetime import timedelta

from torch.distributed import TCPStore
from torch.distributed.elastic.rendezvous import RendezvousConnectionError
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

LOGGER = logging.getLogger(__name__)

STORE_TIMEOUT_S = 60  # for an answer from node 0


def local_address(master_addr: str, port: int) -> str:
    """Return the address of this node in the network of node 0."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(master_addr, port or 1, type=socket.SOCK_DGRAM)[0]
    except socket.gaierror as error:
        raise ValueError(f'MASTER_ADDR={master_addr!r} is not a known host name: {error.strerror}') from error
    with socket.socket(family, kind, protocol) as probe:
        try:
            probe.connect(address)  # a datagram socket: finds the route and sends nothing
        except OSError as error:
            raise ConnectionError(f'no route to MASTER_ADDR={master_addr}: {error.strerror}') from error
        return str(probe.getsockname()[0])


def find_interface(address: str) -> str | None:
    """Return the network interface with an IPv4 address; None if unknown."""
    if sys.platform != 'linux' or ':' in address:
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, 0x8915, struct.pack('256s', name.encode()[:15]))  # SIOCGIFADDR
            except OSError:
                continue  # an interface without an address
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


def open_store(host: str, port: int, is_host: bool, join_timeout: int) -> TCPStore:
    """Open the store on node 0, or wait for it; nodes and processes find each other through it."""
    if is_host:
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ValueError(f'PORT={port} is already in use on this machine; choose another one') from error
            raise
    else:
        _wait_for_machine_0(host, port, join_timeout)
    timeout = timedelta(seconds=STORE_TIMEOUT_S)
    return TCPStore(host, port, is_master=is_host, wait_for_workers=False, multi_tenant=True, timeout=timeout)


def _wait_for_machine_0(host: str, port: int, join_timeout: int) -> None:
    address = f'MASTER_ADDR={host} PORT={port}'
    deadline = time.monotonic() + join_timeout
    reason = ''
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((host, port), timeout=min(left, 5)).close()
            return
        except OSError as error:
            if str(error.strerror or error) != reason:
                reason = str(error.strerror or error)
                LOGGER.warning('Waiting up to %.0f s for node 0 at %s: %s', left, address, reason)
        time.sleep(min(1, max(0, deadline - time.monotonic())))
    raise TimeoutError(f'node 0 did not answer at {address} within JOIN_TIMEOUT={join_timeout} seconds: {reason}')


class Rendezvous(DynamicRendezvousHandler):
    """torch's rendezvous of the nodes, which also detects that node 0 is unreachable."""

    _answers: list[int]
    _asked_at: float | None = None

    def num_nodes_waiting(self) -> int:
        """Return the number of nodes waiting for a restart. Never blocks: returns 0 until the answer arrives.

        Raises:
            torch.distributed.elastic.rendezvous.RendezvousConnectionError: node 0 does not answer.
        """
        if self._asked_at is None:
            self._asked_at, self._answers = time.monotonic(), []
            threading.Thread(target=self._ask, args=(self._answers,), daemon=True).start()
        elif self._answers:
            self._asked_at = None
            if self._answers[0] < 0:
                raise RendezvousConnectionError('its store is closed')
            return self._answers[0]
        elif time.monotonic() - self._asked_at > STORE_TIMEOUT_S:
            raise RendezvousConnectionError(f'no answer within {STORE_TIMEOUT_S} seconds')
        return 0

    def _ask(self, answers: list[int]) -> None:
        try:
            answers.append(super().num_nodes_waiting())
        except RendezvousConnectionError:
            answers.append(-1)
