import multiprocessing
import os
import signal
from multiprocessing.connection import Connection

from dsanet.utils.signals import block_sigint


def interrupt_itself(connection: Connection) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    connection.send(signal.SIGINT in signal.sigpending())


def test_interrupt_is_blocked_in_new_processes() -> None:
    mine, other = multiprocessing.Pipe()
    process = multiprocessing.Process(target=interrupt_itself, args=(other,))
    with block_sigint():
        process.start()
    assert mine.recv(), 'the signal is pending'
    process.join()
    assert process.exitcode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
