"""Starting and supervising the processes of a run on this machine, for ``dsanet launch``.

Based on torch's elastic agent. This file adds: ranks that follow NODE_RANK, restarts only where they can help,
timeouts, and the selection of the failure to show.
"""

import json
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
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
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import RendezvousTimeout

from dsanet.engine.failures import call_with_timeout
from dsanet.engine.rendezvous import STORE_TIMEOUT_S, Rendezvous, find_interface, local_address, open_store
from dsanet.utils import console

LOGGER = logging.getLogger(__name__)

RUN_ID = 'dsanet'  # each run has a store on its own port
USAGE_ERROR = 2  # exit status after a usage error, which a restart cannot fix
STOPPED = {128 + s for s in (signal.SIGTERM, signal.SIGINT)} | {-signal.SIGTERM, -signal.SIGINT, console.STATUS}
DISCONNECT_TIMEOUT_S = 10  # node 0 waits at most this long at the end for the others to leave
FAILED_GROUP_TIMEOUT_S = 30  # for processes to exit after another one has failed
REPORTED_EXIT_TIMEOUT_S = 10  # for a process to exit after it has reported its failure


@dataclass(frozen=True)
class LaunchCfg:
    """Where the processes of a run start, and the timeouts. :func:`read_environment` reads it from the environment.

    Args:
        gpus: number of processes on this node.
        num_nodes: number of nodes.
        node_rank: rank of this node, from 0.
        master_addr: host name or address of node 0.
        port: port of the store on node 0; 0 takes a free one, on a single node only.
        max_restarts: maximum number of restarts of all processes after a failure.
        join_timeout: seconds to wait for the other nodes.
        stop_timeout: seconds for processes to exit after SIGTERM or SIGINT.
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
    """Read the launch options from the environment variables NNODES, NODE_RANK, MASTER_ADDR, PORT, ..."""

    def read(name: str, default: int, smallest: int = 0, largest: int = 10**9) -> int:
        value = environment.get(name, str(default))
        if not (value.isascii() and value.isdecimal()) or not smallest <= int(value) <= largest:
            raise ValueError(f'{name}={value} must be an integer from {smallest} to {largest}')
        return int(value)

    num_nodes = read('NNODES', 1, smallest=1)
    if num_nodes > 1 and not (environment.get('MASTER_ADDR') and environment.get('NODE_RANK')):
        raise ValueError(
            f'NNODES={num_nodes} requires NODE_RANK, from 0 to {num_nodes - 1}, and MASTER_ADDR, the host of node 0'
        )
    node_rank = read('NODE_RANK', 0)
    if node_rank >= num_nodes:
        raise ValueError(f'NODE_RANK={node_rank} must be less than NNODES={num_nodes}')
    return LaunchCfg(
        gpus=gpus,
        num_nodes=num_nodes,
        node_rank=node_rank,
        master_addr=environment['MASTER_ADDR'] if num_nodes > 1 else LaunchCfg.master_addr,
        # A free port, chosen by node 0, would not be known to the other nodes.
        port=read('PORT', 29500, 1, 65535) if num_nodes > 1 else read('PORT', 0, largest=65535),
        max_restarts=read('MAX_RESTARTS', LaunchCfg.max_restarts),
        join_timeout=read('JOIN_TIMEOUT', LaunchCfg.join_timeout, smallest=1),
        stop_timeout=read('STOP_TIMEOUT', LaunchCfg.stop_timeout, smallest=1),
    )


class Agent(LocalElasticAgent):
    """torch's elastic agent, which starts and restarts processes, with these rules:

    - Ranks follow NODE_RANK and stay the same after a restart.
    - Every restart is counted on all nodes.
    - There is no restart after SIGTERM, SIGINT or a usage error.
    - A process that does not exit after the others have exited ends the run.
    """

    def __init__(self, launch: LaunchCfg, store: TCPStore, host: str, address: str, command: Sequence[str]) -> None:
        self._handler = Rendezvous.from_backend(
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
            rdzv_handler=self._handler,
            max_restarts=launch.max_restarts,
            master_addr=host,
            master_port=store.port,
            local_addr=address,
        )
        super().__init__(spec, DefaultLogsSpecs())
        self._launch = launch
        self._shutdown_timeout = launch.stop_timeout
        self._machines = store
        store.set(f'here {launch.node_rank}', '')
        self._attempt = 0  # the same on all nodes
        self._first_exit: float | None = None  # time of the first successful exit on this node
        self._failed: set[int] = set()  # ranks that failed on their own

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        self._machines.set(f'waiting {self._attempt} {self._launch.node_rank}', '')
        join = super()._rendezvous
        try:
            call_with_timeout(lambda: join(worker_group), self._launch.join_timeout + STORE_TIMEOUT_S)
        except TimeoutError as error:
            raise RendezvousConnectionError(str(error)) from None
        except RendezvousTimeoutError as error:
            num_nodes, check = self._launch.num_nodes, self._machines.check
            missing = call_with_timeout(
                lambda: [str(n) for n in range(num_nodes) if not check([f'waiting {self._attempt} {n}'])],
                DISCONNECT_TIMEOUT_S,
            )
            raise TimeoutError(
                f'nodes missing after JOIN_TIMEOUT={self._launch.join_timeout} seconds: '
                f'NODE_RANK {", ".join(missing)} (NNODES={num_nodes})'
            ) from error
        self._first_exit = None
        self._failed = set()

    def _assign_worker_ranks(
        self, store: Store, group_rank: int, group_world_size: int, spec: WorkerSpec
    ) -> list[Worker]:
        """Assign ranks by NODE_RANK, and agree with the other nodes on the number of the attempt.

        torch counts a restart only where a process failed. All nodes must count it, because the addresses of the
        processes are stored by attempt (``distributed.init_process_group``).
        """
        store.set(f'machine {group_rank}', f'{self._launch.node_rank} {self._attempt}')
        values = [store.get(f'machine {n}').decode().split() for n in range(group_world_size)]
        numbers, attempts = (list(map(int, column)) for column in zip(*values, strict=True))
        if sorted(numbers) != list(range(group_world_size)):
            raise ValueError(
                f'the nodes have NODE_RANK {numbers}; each value from 0 to {group_world_size - 1} must occur once'
            )
        attempt = max(attempts)
        self._remaining_restarts = max(0, spec.max_restarts - attempt)
        self._attempt = attempt + 1
        return super()._assign_worker_ranks(store, self._launch.node_rank, group_world_size, spec)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Check the processes; a failure that a restart cannot fix removes the remaining restarts."""
        statuses = self._statuses()
        has_failed = any(statuses.values())
        if has_failed:
            failed = self._wait_for_reported_exits()
            is_stopped = not STOPPED.isdisjoint(failed.values())
            if is_stopped or USAGE_ERROR in failed.values():
                self._remaining_restarts = 0
            self._failed = set(failed)
            timeout = self._launch.stop_timeout
            self._shutdown(timeout=timeout if is_stopped else min(timeout, FAILED_GROUP_TIMEOUT_S))
        elif None in statuses.values():
            if 0 in statuses.values():
                self._check_stragglers(statuses)
            return RunResult(state=WorkerState.HEALTHY)
        result = super()._monitor_workers(worker_group)
        if has_failed and self._remaining_restarts > 0:
            text = describe_failures(self.own_failures(result), with_traceback=False)
            LOGGER.warning('%s; restarting (%d/%d)', text, self._attempt, worker_group.spec.max_restarts)
        return result

    def _wait_for_reported_exits(self) -> dict[int, int]:
        """Wait until the processes that reported a failure have exited; return the failed exit statuses by rank.

        They failed on their own, and may be the reason why others failed. A signal sent too early would replace
        their exit status.
        """
        assert self._pcontext is not None, 'the processes have been started'
        files = {w.global_rank: self._pcontext.error_files[w.local_rank] for w in self._worker_group.workers}
        deadline = time.monotonic() + min(REPORTED_EXIT_TIMEOUT_S, self._launch.stop_timeout)
        while True:
            statuses = self._statuses()
            is_exiting = any(status is None and os.path.exists(files[rank]) for rank, status in statuses.items())
            if not is_exiting or time.monotonic() > deadline:
                return {rank: status for rank, status in statuses.items() if status}
            time.sleep(0.02)

    def own_failures(self, result: RunResult) -> dict[int, ProcessFailure]:
        """Return the failures by rank, without processes that were ended because others had failed."""
        return {rank: failure for rank, failure in result.failures.items() if rank in self._failed}

    def has_printed(self) -> bool:
        """Return whether a process of this node has printed why it was stopped."""
        if self._pcontext is None:
            return False
        for file in self._pcontext.error_files.values():
            with suppress(OSError, ValueError, KeyError, TypeError):  # no report, or one of another program
                if json.loads(Path(file).read_bytes())['message']['extraInfo']['is_printed']:
                    return True
        return False

    def _statuses(self) -> dict[int, int | None]:
        """Return the exit status of each process by rank; None while it runs."""
        assert self._pcontext is not None, 'the processes have been started'
        handlers = self._pcontext.subprocess_handlers  # type: ignore[attr-defined]
        return {worker.global_rank: handlers[worker.local_rank].proc.poll() for worker in self._worker_group.workers}

    def _check_stragglers(self, statuses: Mapping[int, int | None]) -> None:
        self._first_exit = self._first_exit or time.monotonic()
        if time.monotonic() - self._first_exit > self._launch.stop_timeout:
            ranks = ', '.join(str(rank) for rank, status in statuses.items() if status is None)
            raise TimeoutError(
                f'rank {ranks} did not exit within STOP_TIMEOUT={self._launch.stop_timeout} seconds after the others'
            )

    def _shutdown(
        self, death_sig: signal.Signals = signal.SIGTERM, timeout: float | None = None, **_others: Any
    ) -> None:
        """End all processes. Versions of torch pass different other arguments."""
        if self._pcontext is not None:
            self._pcontext.close(death_sig, self._launch.stop_timeout if timeout is None else timeout)  # type: ignore[arg-type]

    def disconnect(self, end_run: bool) -> None:
        """Leave the other nodes, or end the run on them. Node 0 waits, because they still read its store."""

        def leave() -> None:
            if end_run:
                self._handler.shutdown()
            if self._launch.node_rank:
                self._machines.set(f'left {self._launch.node_rank}', '')
                return
            others = [n for n in range(1, self._launch.num_nodes) if self._machines.check([f'here {n}'])]
            deadline = time.monotonic() + DISCONNECT_TIMEOUT_S
            while time.monotonic() < deadline and not all(self._machines.check([f'left {n}']) for n in others):
                time.sleep(0.1)

        with suppress(RuntimeError, TimeoutError):  # node 0 has already left
            call_with_timeout(leave, 2 * DISCONNECT_TIMEOUT_S)


def handle_signals() -> None:
    """Make the signals that end a run raise SignalException, here and in torch's agent.

    Ignored signals stay ignored: SIGHUP under nohup, SIGINT and SIGQUIT in background jobs of scripts.
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
    """Run a program on ``launch.gpus`` processes of this machine.

    Returns:
        Exit status and message, which is empty if there is nothing to say. The status is 0; 128 + n for signal n, sent
        to the launcher or to the program; 2 for a usage error; 1 for any other failure.
    """
    handle_signals()
    # Silence torch's reports: the launcher reports each failure once, with its reason.
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith('torch.distributed.elastic'):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    agent: Agent | None = None
    is_stopped = False
    try:
        address = local_address(launch.master_addr, launch.port)
        interface = find_interface(address)
        if interface is not None:  # by default gloo uses the address of the host name, which may be a different one
            os.environ.setdefault('GLOO_SOCKET_IFNAME', interface)
        # MASTER_ADDR may be a service in front of node 0, so node 0 itself must use its own address.
        host = launch.master_addr if launch.node_rank else address
        store = open_store(host, launch.port, launch.node_rank == 0, launch.join_timeout)
        agent = Agent(launch, store, host, address, command)
        result = agent.run()
        if result is None:
            return 1, 'error: the run was ended by another node; see its console for the reason'
        if result.state == WorkerState.SUCCEEDED:
            return 0, ''
        if not result.failures:
            return 1, 'error: a worker process could not be killed'
        failures = agent.own_failures(result)
        _, first = first_failure(failures)
        is_told = first.exitcode in STOPPED and agent.has_printed()
        return exit_status(first.exitcode), '' if is_told else describe_failures(failures)
    except SignalException as error:
        is_stopped = True
        is_told = agent is not None and agent.has_printed()
        return 128 + error.sigval, '' if is_told else f'Stopped by {error.sigval.name}'
    except ValueError as error:
        return USAGE_ERROR, f'error: {error}'
    except OSError as error:  # includes TimeoutError
        return 1, f'error: {error}'
    except RendezvousClosedError:
        return 1, 'error: the run was ended by another node; see its console for the reason'
    except (RendezvousConnectionError, DistError) as error:
        reason = str(error.__cause__ or error).split('\n')[0]
        return 1, f'error: node 0 is unreachable at MASTER_ADDR={launch.master_addr}: {reason}'
    finally:
        _set_handlers(signal.SIG_IGN)
        if agent is not None:
            agent._shutdown(signal.SIGKILL, timeout=5)
            _set_handlers(signal.SIG_DFL)
            agent.disconnect(end_run=not is_stopped)


# -- messages ----------------------------------------------------------------------------------------------------------


def _reported(failure: ProcessFailure) -> dict[str, Any]:
    """Return what ``failures.report_failure`` wrote; empty if the process did not report anything."""
    message = failure.error_file_data['message']
    return {'message': message['message'], **message['extraInfo']} if isinstance(message, dict) else {}


def first_failure(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Return rank and failure of the process that failed first; those that only lost contact come last."""

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, int, int]:
        rank, failure = item
        return _reported(failure).get('lost_contact', False), failure.timestamp, rank

    return min(failures.items(), key=order)


def exit_status(status: int) -> int:
    """Return the exit status of the launcher for that of a process: 2, 130, 141, 143 are kept, other failures are 1."""
    if status in STOPPED:
        return status if status > 0 else 128 - status
    return status if status == USAGE_ERROR else 1


def describe_failures(failures: Mapping[int, ProcessFailure], with_traceback: bool = True) -> str:
    """Return a message about the first failure, with its traceback if there is one."""
    rank, failure = first_failure(failures)
    reported = _reported(failure)
    if failure.exitcode == USAGE_ERROR:
        return str(reported.get('message', ''))  # if empty, the program has printed it, as argparse does
    if reported.get('lost_contact'):
        return str(reported['message'])
    start = f'Rank {rank} failed first'
    if reported:
        return f'{start}:\n{reported["py_callstack"].rstrip()}' if with_traceback else f'{start}: {reported["message"]}'
    if failure.exitcode == console.STATUS:
        return ''
    if failure.exitcode in STOPPED:
        return f'Stopped by {signal.Signals(abs(failure.exitcode) % 128).name}'
    if failure.exitcode < 0:
        name = failure.signal_name()
        hints = {
            'SIGKILL': ' (sent by another program, or by the system when out of memory)',
            'SIGABRT': ' (NCCL aborts if a process does not answer within runtime.timeout_minutes)',
        }
        return f'{start}: {name}{hints.get(name, "")}'
    return f'{start}: exit status {failure.exitcode}'
