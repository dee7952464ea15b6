"""Starting the processes of a run on this machine and keeping them together: ``dsanet launch`` in a library.

torch's elastic agent does the work. This file says where machines meet, who is which process, what is started again
and what is not, how long a stopped process may take, and which of several failures is the one to show.
"""

import errno
import logging
import os
import platform
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

from torch.distributed import DistError, Store, TCPStore
from torch.distributed.elastic.agent.server.api import RunResult, Worker, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, RendezvousTimeout

from dsanet.engine.failures import call_with_timeout

LOGGER = logging.getLogger(__name__)

RUN_ID = 'dsanet'  # one store, on a port of its own, serves one run
MISTAKE = 2  # exit status of a process whose user made a mistake: starting it again would not help
STOPPED = {128 + s for s in (signal.SIGTERM, signal.SIGINT)} | {-signal.SIGTERM, -signal.SIGINT}
FAREWELL = 10  # seconds that machine 0 stays after its end, unless all others have left before
REACH = 60  # seconds in which machine 0 must answer
LEFT_BEHIND = 30  # seconds for processes to end of which another has failed
LEAVING = 10  # seconds for a process to end by itself that has said why


@dataclass(frozen=True)
class LaunchCfg:
    """Where a run's processes start, and how patiently. See :func:`read_environment` for the variables.

    Args:
        gpus: processes on this machine.
        num_nodes: machines.
        node_rank: number of this machine, from 0.
        master_addr: name or address of machine 0.
        port: of machine 0's store; 0 takes a free one, which only one machine alone can.
        max_restarts: how often all processes are started again after one failed.
        join_timeout: seconds to wait for the other machines.
        stop_timeout: seconds for processes to end by themselves after SIGTERM or SIGINT.
    """

    gpus: int
    num_nodes: int = 1
    node_rank: int = 0
    master_addr: str = '127.0.0.1'
    port: int = 0
    max_restarts: int = 0
    join_timeout: int = 600
    stop_timeout: int = 150


def read_environment(gpus: int, environment: Mapping[str, str]) -> LaunchCfg:
    """Return what the environment variables NNODES, NODE_RANK, MASTER_ADDR, PORT, MAX_RESTARTS, ... say.

    Raises:
        ValueError: no number where one belongs; several machines, but not which is which.
    """
    several = environment.get('NNODES', '1') != '1'
    defaults = {
        'NNODES': 1,
        'NODE_RANK': 0,
        'PORT': 29500 if several else 0,
        'MAX_RESTARTS': LaunchCfg.max_restarts,
        'JOIN_TIMEOUT': LaunchCfg.join_timeout,
        'STOP_TIMEOUT': LaunchCfg.stop_timeout,
    }
    numbers = {}
    for name, default in defaults.items():
        value = environment.get(name, str(default))
        if not value.isdecimal():
            raise ValueError(f'{name}={value!r} must be a whole number')
        numbers[name] = int(value)
    for name in ('NNODES', 'JOIN_TIMEOUT', 'STOP_TIMEOUT'):
        if numbers[name] < 1:
            raise ValueError(f'{name}={numbers[name]} must be at least 1')
    num_nodes = numbers['NNODES']
    if several and not {'MASTER_ADDR', 'NODE_RANK'} <= environment.keys():
        raise ValueError(
            f'NNODES={num_nodes} machines need NODE_RANK, 0 to {num_nodes - 1}, and MASTER_ADDR, where 0 is'
        )
    if numbers['NODE_RANK'] >= num_nodes:
        raise ValueError(f'NODE_RANK={numbers["NODE_RANK"]} must be less than NNODES={num_nodes}')
    if numbers['PORT'] > 65535:
        raise ValueError(f'PORT={numbers["PORT"]} must be at most 65535')
    return LaunchCfg(
        gpus=gpus,
        num_nodes=num_nodes,
        node_rank=numbers['NODE_RANK'],
        master_addr=environment['MASTER_ADDR'] if several else LaunchCfg.master_addr,
        port=numbers['PORT'],
        max_restarts=numbers['MAX_RESTARTS'],
        join_timeout=numbers['JOIN_TIMEOUT'],
        stop_timeout=numbers['STOP_TIMEOUT'],
    )


# -- where machines meet -----------------------------------------------------------------------------------------------


def own_address(master_addr: str, port: int) -> str:
    """Return the address of this machine on the way to machine 0.

    Raises:
        ValueError: there is no machine of that name.
        ConnectionError: this machine has no network that leads to it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(master_addr, port or 1, type=socket.SOCK_DGRAM)[0]
    except socket.gaierror as error:
        raise ValueError(f'MASTER_ADDR={master_addr!r} is not the name of a machine: {error.strerror}') from error
    with socket.socket(family, kind, protocol) as probe:
        try:
            probe.connect(address)  # of datagrams: finds the way and sends nothing
        except OSError as error:
            raise ConnectionError(f'no network leads to MASTER_ADDR={master_addr}: {error.strerror}') from error
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """Return the name of the network interface with an IPv4 address; None where that cannot be told."""
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


def open_store(launch: LaunchCfg, host: str) -> TCPStore:
    """Open the store on machine 0 through which machines and processes find each other.

    Args:
        launch: where and how patiently.
        host: machine 0 as this machine sees it.

    Raises:
        ValueError: the port is taken on this machine, which is number 0.
        TimeoutError: machine 0 did not answer within ``join_timeout``.
    """
    is_host = launch.node_rank == 0
    if is_host:
        _check_port(launch)
    else:
        _wait_for_machine_0(launch)
    return TCPStore(
        host,
        launch.port,
        is_master=is_host,
        wait_for_workers=False,
        multi_tenant=True,
        timeout=timedelta(seconds=60),
    )


def _check_port(launch: LaunchCfg) -> None:
    family = socket.AF_INET6 if ':' in launch.master_addr else socket.AF_INET
    try:
        socket.create_server((launch.master_addr, launch.port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f'PORT={launch.port} is taken on this machine: choose another one') from error
        LOGGER.warning(
            'MASTER_ADDR=%s does not seem to be an address of this machine, which has NODE_RANK=0 (%s)',
            launch.master_addr,
            os.strerror(error.errno or 0),
        )


def _wait_for_machine_0(launch: LaunchCfg) -> None:
    place = f'MASTER_ADDR={launch.master_addr} PORT={launch.port}'
    deadline = time.monotonic() + launch.join_timeout
    reason = ''
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f'machine 0 did not answer at {place} within JOIN_TIMEOUT={launch.join_timeout} seconds: {reason}'
            )
        try:
            socket.create_connection((launch.master_addr, launch.port), timeout=min(left, 5)).close()
            return
        except OSError as error:
            if str(error.strerror or error) != reason:
                reason = str(error.strerror or error)
                LOGGER.warning('waiting up to %.0f seconds for machine 0 at %s: %s', left, place, reason)
        time.sleep(min(1, max(0, deadline - time.monotonic())))


# -- keeping the processes together ------------------------------------------------------------------------------------


class Rendezvous(DynamicRendezvousHandler):
    """torch's meeting of machines, which notices that machine 0 is cut off."""

    _answers: list[int]
    _asked: float | None = None

    def num_nodes_waiting(self) -> int:
        """Return how many machines wait for a new attempt, without waiting for the answer: 0 until it comes.

        Raises:
            RendezvousConnectionError: machine 0 does not answer.
        """
        if self._asked is None:
            self._asked, self._answers = time.monotonic(), []
            threading.Thread(target=self._ask, args=(self._answers,), daemon=True).start()
        elif self._answers:
            self._asked = None
            if self._answers[0] < 0:
                raise RendezvousConnectionError('its store has closed')
            return self._answers[0]
        elif time.monotonic() - self._asked > REACH:
            raise RendezvousConnectionError(f'no answer within {REACH} seconds')
        return 0

    def _ask(self, answers: list[int]) -> None:
        try:
            answers.append(super().num_nodes_waiting())
        except RendezvousConnectionError:
            answers.append(-1)


class Agent(LocalElasticAgent):
    """torch's agent, which starts processes and starts them again, with our rules.

    - Process numbers follow NODE_RANK and stay the same at every restart.
    - All machines count the same restarts, whichever noticed the failure.
    - Nobody is started again who stopped because of SIGTERM or SIGINT, or of the user's mistake.
    - A process that does not end after the others have ended ends the run.

    Args:
        launch: where and how patiently.
        store: of :func:`open_store`.
        host: machine 0 as this machine sees it.
        address: of this machine.
        command: the program and its arguments.
    """

    def __init__(self, launch: LaunchCfg, store: TCPStore, host: str, address: str, command: Sequence[str]) -> None:
        handler = Rendezvous.from_backend(
            RUN_ID,
            store,
            C10dRendezvousBackend(store, RUN_ID),
            min_nodes=launch.num_nodes,
            max_nodes=launch.num_nodes,
            local_addr=address,
            timeout=RendezvousTimeout(join=timedelta(seconds=launch.join_timeout)),
        )
        spec = WorkerSpec(
            role='default',
            local_world_size=launch.gpus,
            entrypoint=command[0],
            args=tuple(command[1:]),
            rdzv_handler=handler,
            max_restarts=launch.max_restarts,
            master_addr=host,
            master_port=store.port,
            local_addr=address,
        )
        super().__init__(spec, DefaultLogsSpecs())
        self._handler = handler
        self._launch = launch
        self._shutdown_timeout = launch.stop_timeout
        self._meeting = store
        store.set(f'here {launch.node_rank}', '')
        self._attempt = 0  # of all machines
        self._first_end: float | None = None  # when the first of this machine's processes ended well
        self._failed: set[int] = set()  # ranks of those that failed by themselves

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        """Meet the other machines for an attempt."""
        self._meeting.set(f'waiting {self._attempt} {self._launch.node_rank}', platform.node())
        join = super()._rendezvous
        try:
            call_with_timeout(lambda: join(worker_group), self._launch.join_timeout + REACH)
        except TimeoutError as error:
            raise RendezvousConnectionError(str(error)) from None
        except RendezvousTimeoutError as error:
            machines = range(self._launch.num_nodes)
            numbers = call_with_timeout(lambda: [n for n in machines if not self._is_waiting(n)], FAREWELL)
            raise TimeoutError(
                f'machine {", ".join(map(str, numbers))} of {self._launch.num_nodes} (NNODES) did not join within '
                f'JOIN_TIMEOUT={self._launch.join_timeout} seconds'
            ) from error
        self._first_end = None
        self._failed = set()

    def _is_waiting(self, node_rank: int) -> bool:
        return bool(self._meeting.check([f'waiting {self._attempt} {node_rank}']))

    def _assign_worker_ranks(
        self, store: Store, group_rank: int, group_world_size: int, spec: WorkerSpec
    ) -> list[Worker]:
        """Number this machine's processes by NODE_RANK, and agree with the other machines on the attempt.

        A machine whose processes did not fail would not count a restart; all must, because the number also tells the
        addresses of this attempt's processes from those of earlier ones (``distributed.init_process_group``).
        """
        store.set(f'machine {group_rank}', f'{self._launch.node_rank} {self._attempt} {spec.max_restarts}')
        told = [store.get(f'machine {n}').decode().split() for n in range(group_world_size)]
        numbers, attempts, restarts = (list(map(int, column)) for column in zip(*told, strict=True))
        if sorted(numbers) != list(range(group_world_size)):
            raise ValueError(f'the machines have the NODE_RANK {numbers}: each of 0 to {group_world_size - 1} once')
        if len(set(restarts)) > 1:
            raise ValueError(f'the machines have the MAX_RESTARTS {restarts}: all must have the same')
        attempt = max(attempts)
        self._remaining_restarts = max(0, spec.max_restarts - attempt)
        self._attempt = attempt + 1
        return super()._assign_worker_ranks(store, self._launch.node_rank, group_world_size, spec)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Look after the processes; a failure that nothing can be done about takes the remaining restarts."""
        statuses = self._statuses()
        failed = {rank: status for rank, status in statuses.items() if status}
        if failed:
            failed = self._await_leaving()
            asked_to_stop = not STOPPED.isdisjoint(failed.values())
            if asked_to_stop or MISTAKE in failed.values():
                self._remaining_restarts = 0
            # Who fails without being asked has broken the group, and there is little left to do for the others.
            self._failed = set(failed)
            patience = self._launch.stop_timeout
            self._shutdown(timeout=patience if asked_to_stop else min(patience, LEFT_BEHIND))
        elif None in statuses.values():
            if 0 in statuses.values():
                self._check_stragglers(statuses)
            return RunResult(state=WorkerState.HEALTHY)
        result = super()._monitor_workers(worker_group)
        if failed and self._remaining_restarts > 0:
            text = describe(self.own_failures(result), in_full=False)
            LOGGER.warning('%s; restart %d of %d', text, self._attempt, worker_group.spec.max_restarts)
        return result

    def _await_leaving(self) -> dict[int, int]:
        """Return the exit status of each failed process by rank, when those have ended that have left a message.

        Such a process has failed before it was asked to end, and may be the reason why others did. A signal now would
        hide its own exit status, or cut its message off.
        """
        assert self._pcontext is not None, 'processes are looked after when they have been started'
        files = {w.global_rank: self._pcontext.error_files[w.local_rank] for w in self._worker_group.workers}
        deadline = time.monotonic() + min(LEAVING, self._launch.stop_timeout)
        while True:
            statuses = self._statuses()
            is_leaving = any(status is None and os.path.exists(files[rank]) for rank, status in statuses.items())
            if not is_leaving or time.monotonic() > deadline:
                return {rank: status for rank, status in statuses.items() if status}
            time.sleep(0.02)

    def own_failures(self, result: RunResult) -> dict[int, ProcessFailure]:
        """Return the failed processes by rank, without those that were ended because others had failed."""
        return {rank: failure for rank, failure in result.failures.items() if rank in self._failed}

    def _statuses(self) -> dict[int, int | None]:
        """Return the exit status of each process of this machine by rank; None while it runs."""
        assert self._pcontext is not None, 'processes are looked after when they have been started'
        handlers = self._pcontext.subprocess_handlers  # type: ignore[attr-defined]
        return {worker.global_rank: handlers[worker.local_rank].proc.poll() for worker in self._worker_group.workers}

    def _check_stragglers(self, statuses: Mapping[int, int | None]) -> None:
        self._first_end = self._first_end or time.monotonic()
        if time.monotonic() - self._first_end > self._launch.stop_timeout:
            ranks = ', '.join(str(rank) for rank, status in statuses.items() if status is None)
            raise TimeoutError(
                f'process {ranks} did not end within STOP_TIMEOUT={self._launch.stop_timeout} seconds after the others'
            )

    def _shutdown(
        self, death_sig: signal.Signals = signal.SIGTERM, timeout: float | None = None, **_others: Any
    ) -> None:
        """End all processes; releases of torch differ in what else they pass."""
        if self._pcontext is not None:
            self._pcontext.close(death_sig, self._launch.stop_timeout if timeout is None else timeout)  # type: ignore[arg-type]

    def kill(self) -> None:
        """Make sure that no process is left."""
        self._shutdown(signal.SIGKILL, timeout=5)

    def part(self, tell: bool) -> None:
        """Leave the other machines. Machine 0 stays a little longer, so that they can read its store to the end.

        Args:
            tell: whether the run is over for them, too, and must not wait for this machine.
        """
        try:
            call_with_timeout(lambda: self._part(tell), 2 * FAREWELL)
        except (RuntimeError, TimeoutError) as error:
            LOGGER.debug('machine 0 has left before: %s', error)

    def _part(self, tell: bool) -> None:
        if tell:
            self._handler.shutdown()
        if self._launch.node_rank:
            self._meeting.set(f'left {self._launch.node_rank}', '')
            return
        others = [n for n in range(1, self._launch.num_nodes) if self._meeting.check([f'here {n}'])]
        deadline = time.monotonic() + FAREWELL
        while time.monotonic() < deadline and not all(self._meeting.check([f'left {n}']) for n in others):
            time.sleep(0.1)


def handle_signals() -> None:
    """Let the signals that end a run raise SignalException, and torch's agent do the same later.

    One that is ignored is left alone: SIGHUP under nohup, SIGINT and SIGQUIT in what a script starts in the background.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    names = [number.name for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'] = ','.join(names)
    _set_handlers(_raise)


def _set_handlers(handler: Any) -> None:
    for name in os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'].split(','):
        signal.signal(signal.Signals[name], handler)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise SignalException(f'got signal {number}', signal.Signals(number))


def run(launch: LaunchCfg, command: Sequence[str]) -> tuple[int, str]:
    """Run a program on ``launch.gpus`` processes of this machine, to the end.

    Args:
        launch: where and how patiently.
        command: the program and its arguments.

    Returns:
        The exit status and what to say, '' if all went well. 0; 128 + n for signal n, whether this process got it or
        the program did; 2 for the user's mistake; 1 for any other failure.
    """
    handle_signals()
    # What it says of processes that end is said here, once, and with their reason.
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    agent: Agent | None = None
    stopped = False
    try:
        address = own_address(launch.master_addr, launch.port)
        interface = interface_of(address)
        if interface is not None:  # gloo would ask for the address of the host's name, which may be any
            os.environ.setdefault('GLOO_SOCKET_IFNAME', interface)
        # Machine 0 may be known to the others by a name or address that is not its own, as behind a service.
        host = launch.master_addr if launch.node_rank else address
        agent = Agent(launch, open_store(launch, host), host, address, command)
        result = agent.run()
        if result is None:
            return 1, 'the run was ended by another machine'
        if result.state == WorkerState.SUCCEEDED:
            return 0, ''
        if not result.failures:
            return 1, 'a process hangs in the system and cannot even be killed'
        failures = agent.own_failures(result)
        _, first = first_failure(failures)
        return exit_status(first.exitcode), describe(failures)
    except SignalException as error:
        stopped = True
        return 128 + error.sigval, f'stopped by {error.sigval.name}'
    except ValueError as error:
        return MISTAKE, f'error: {error}'
    except OSError as error:  # TimeoutError is one
        return 1, f'error: {error}'
    except RendezvousClosedError:
        return 1, 'error: another machine has ended the run; its console says why'
    except (RendezvousConnectionError, DistError) as error:
        reason = str(error.__cause__ or error).split('\n')[0]
        return 1, f'error: machine 0, MASTER_ADDR={launch.master_addr}, is out of reach: {reason}'
    finally:
        _set_handlers(signal.SIG_IGN)
        if agent is not None:
            agent.kill()
            _set_handlers(signal.SIG_DFL)
            agent.part(tell=not stopped)


# -- what to say -------------------------------------------------------------------------------------------------------


def _details(failure: ProcessFailure) -> dict[str, Any]:
    """Return what ``failures.report_failure`` left; empty if the process died without a word."""
    message = failure.error_file_data['message']
    return {'message': message['message'], **message['extraInfo']} if isinstance(message, dict) else {}


def first_failure(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Return the rank and failure of the process that failed first, and not for want of another one."""

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, int, int]:
        rank, failure = item
        return _details(failure).get('lost_contact', False), failure.timestamp, rank

    return min(failures.items(), key=order)


def exit_status(status: int) -> int:
    """Return the launcher's exit status for that of a process: 2, 143 and 130 mean something, others are just 1."""
    if status in STOPPED:
        return status if status > 0 else 128 - status
    return status if status == MISTAKE else 1


def describe(failures: Mapping[int, ProcessFailure], in_full: bool = True) -> str:
    """Return what there is to say of failed processes: of the first one that failed.

    Args:
        failures: by rank.
        in_full: with the traceback, if there is one.
    """
    rank, failure = first_failure(failures)
    details = _details(failure)
    if failure.exitcode == MISTAKE:
        return str(details.get('message', ''))  # without one the program has told it, as argparse does
    if details.get('lost_contact'):
        return str(details['message'])
    start = f'process {rank} was the first to fail'
    if details:
        return f'{start}:\n{details["py_callstack"].rstrip()}' if in_full else f'{start}: {details["message"]}'
    if failure.exitcode in STOPPED:
        return f'stopped by {signal.Signals(abs(failure.exitcode) % 128).name}'
    if failure.exitcode < 0:
        name = failure.signal_name()
        hints = {
            'SIGKILL': ', from outside or by a system that is out of memory',
            'SIGABRT': ', as NCCL does when a process did not answer within runtime.timeout_minutes',
        }
        return f'{start}: {name}{hints.get(name, "")}'
    return f'{start}, with exit status {failure.exitcode}'
