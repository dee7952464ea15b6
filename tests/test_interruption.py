"""An interruption ends a program with a line and status 130, wherever it comes; other errors keep their traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from codes.interruption import end_plainly_if_interrupted

ROOT = Path(__file__).parents[1]
START = f"""
import signal, sys
sys.path.insert(0, {str(ROOT)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
from codes.interruption import end_plainly_if_interrupted
end_plainly_if_interrupted('interrupted; go on')
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', START + code], capture_output=True, text=True, check=False)


def test_an_interruption_is_a_line_and_status_130() -> None:
    done = run('try:\n    signal.raise_signal(signal.SIGINT)\nfinally:\n    print("tidied up")')
    assert (done.returncode, done.stdout, done.stderr) == (130, 'tidied up\n', 'interrupted; go on\n')


def test_a_second_interruption_while_it_tidies_up_is_no_traceback_either() -> None:
    done = run('try:\n    signal.raise_signal(signal.SIGINT)\nfinally:\n    signal.raise_signal(signal.SIGINT)')
    assert (done.returncode, done.stderr) == (130, 'interrupted; go on\n')


def test_other_errors_keep_their_traceback() -> None:
    done = run('1 / 0')
    assert done.returncode == 1
    assert done.stderr.startswith('Traceback')
    assert done.stderr.endswith('ZeroDivisionError: division by zero\n')
    assert run('sys.exit(3)').returncode == 3


def test_the_usual_line_says_what_happened(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    end_plainly_if_interrupted()
    with pytest.raises(SystemExit, match='130'):
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == 'interrupted\n'


def test_it_costs_no_import_of_weight() -> None:
    code = 'assert not {"torch", "numpy", "av", "cv2"} & set(sys.modules), sorted(sys.modules)'
    done = run(code)
    assert (done.returncode, done.stderr) == (0, '')


TOOLS_THAT_TAKE_LONG = (
    'analysis/benchmark_decoding.py',
    'data/browse_dataset.py',
    'data/build_list.py',
    'data/check_dataset.py',
    'data/extract_frames.py',
    'data/transcode.py',
)


@pytest.mark.parametrize('tool', TOOLS_THAT_TAKE_LONG)
def test_tools_can_be_interrupted_during_their_imports(tool: str) -> None:
    code = f"""
import runpy
class Interrupt:
    def find_spec(self, name, *_):
        if name in ('numpy', 'tqdm', 'cv2', 'av', 'torch'):
            signal.raise_signal(signal.SIGINT)
sys.excepthook = sys.__excepthook__
sys.meta_path.insert(0, Interrupt())
sys.argv = ['tool']
runpy.run_path({str(ROOT / 'tools' / tool)!r}, run_name='__main__')
"""
    done = run(code)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith('interrupted')
    assert done.stderr.count('\n') == 1
