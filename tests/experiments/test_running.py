import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dsanet.experiments import running
from dsanet.experiments.plan import Plan, Trial, Variant
from dsanet.experiments.running import (
    ORDER,
    RESULTS,
    TRIAL_FILE,
    Resources,
    check_test_data,
    check_unchanged,
    has_order,
    load_configs,
    run_trials,
)

A = Variant('A', 'a.py', ('x=1',))
B = Variant('B', 'b.py', ())
SAMPLE = {'type': 'SampleSnippets', 'num_snippets': 4, 'frames_per_snippet': 1}
CONFIG = {'test_dataloader': {'dataset': {'pipeline': [SAMPLE]}}}

# A program in place of dsanet: it records its arguments and times, and writes the files that the commands write.
PROGRAM = """
import json, os, pathlib, signal, sys, time
name, args = sys.argv[1], sys.argv[2:]
log = pathlib.Path({log!r})
def record(what):
    with log.open('a') as stream:
        threads, gpus = os.environ.get('OMP_NUM_THREADS'), os.environ.get('CUDA_VISIBLE_DEVICES')
        stream.write(json.dumps([what, name, args, time.monotonic(), threads, gpus]) + chr(10))
def stop(*_):
    record('stopped')
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
record('begin')
if {failing!r} in args and name == 'train':
    print('the last line')
    sys.exit(3)
time.sleep({seconds})
if name == 'train':
    folder = pathlib.Path(args[args.index('--work-dir') + 1])
    for epoch in (9, 10):
        (folder / f'epoch_{{epoch}}.pth').touch()
    (folder / 'best.pth').touch()
else:
    pathlib.Path(args[args.index({{'test': '--out', 'order': '--json'}}[name]) + 1]).touch()
record('end')
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the program, and return its log."""
    return install(tmp_path, monkeypatch)


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str = '', seconds: float = 0.0) -> Path:
    log = tmp_path / 'log'
    log.touch()
    file = tmp_path / 'program.py'
    file.write_text(PROGRAM.format(log=str(log), failing=failing, seconds=seconds))
    monkeypatch.setattr(running, 'PROGRAM', (sys.executable, str(file)))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    return log


def configs_of(plan: Plan, config: dict | None = None) -> dict:
    return dict.fromkeys(plan.trials, config or CONFIG)


def read(log: Path) -> list[list]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_commands_of_a_trial(program: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    assert run_trials(configs_of(Plan((A,), (7,))), out, Resources(gpus=2), ['my.blocks']) == []
    folder = out / 'a_seed7'
    options = ['--cfg-options', 'x=1', 'runtime.seed=7', '--import', 'my.blocks']
    last = str(folder / 'epoch_10.pth')
    assert [row[1:3] for row in read(program) if row[0] == 'begin'] == [
        ['train', ['a.py', '--gpus', '2', '--work-dir', str(folder), '--resume', 'auto', *options]],
        ['test', ['a.py', last, '--gpus', '2', '--out', str(folder / RESULTS), '--resume-test', *options]],
        ['order', [last, 'a.py', '--json', str(folder / ORDER), *options]],
    ]


def test_finished_steps_are_not_repeated(program: Path, tmp_path: Path) -> None:
    plan = Plan((A,), (0,))
    run_trials(configs_of(plan), tmp_path, Resources())
    (tmp_path / 'a_seed0' / ORDER).unlink()
    program.write_text('')
    run_trials(configs_of(plan), tmp_path, Resources())
    run_trials(configs_of(plan), tmp_path, Resources())
    assert [row[1] for row in read(program) if row[0] == 'begin'] == ['order']


def test_wrong_test_data_are_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict] = []
    monkeypatch.setattr(running, 'find_test_errors', lambda config: calls.append(config) or config.get('text', ''))
    good = {**CONFIG, 'model': {}}
    configs = {Trial(A, 0): good, Trial(A, 1): good, Trial(B, 0): {**good, 'text': 'no list'}}
    configs[Trial(B, 0)]['test_dataloader'] = {'dataset': {'list_file': 'x'}}
    with pytest.raises(ValueError, match='variant B.*\nno list'):
        check_test_data(configs, tmp_path)
    assert len(calls) == 2, 'equal test data are checked once'
    (tmp_path / 'b_seed0').mkdir()
    (tmp_path / 'b_seed0' / RESULTS).touch()
    check_test_data(configs, tmp_path)  # the test of B is finished


def test_another_config_is_refused(program: Path, tmp_path: Path) -> None:
    plan = Plan((A,), (0,))
    run_trials(configs_of(plan), tmp_path, Resources())
    check_unchanged(configs_of(plan), tmp_path)
    check_unchanged(configs_of(Plan((Variant('A', './a.py', ('x=1', 'x=1')),), (0,))), tmp_path)  # the same config
    with pytest.raises(ValueError, match='a_seed0.*lr'):
        check_unchanged(configs_of(plan, {**CONFIG, 'lr': 0.1}), tmp_path)
    assert json.loads((tmp_path / 'a_seed0' / TRIAL_FILE).read_text())['cfg_options'] == ['x=1']


def test_failed_trial_may_be_corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, failing='a.py')
    assert len(run_trials(configs_of(Plan((A,), (0,))), tmp_path, Resources())) == 1
    check_unchanged(configs_of(Plan((A,), (0,)), {**CONFIG, 'lr': 0.1}), tmp_path)


@pytest.mark.parametrize('name', ['epoch_3.pth', RESULTS])
def test_run_of_another_command_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / 'a_seed0'
    folder.mkdir()
    (folder / 'notes.txt').touch()
    check_unchanged(configs_of(Plan((A,), (0,))), tmp_path)
    (folder / name).touch()
    with pytest.raises(ValueError, match='a_seed0'):
        check_unchanged(configs_of(Plan((A,), (0,))), tmp_path)


def test_wrong_config_is_found_first() -> None:
    good = Variant('Good', 'demo/dsanet_ordered_actions', ('optimizer.lr=0.5',))
    configs = load_configs(Plan((good,), (3,)))
    assert [(c['optimizer']['lr'], c['runtime']['seed']) for c in configs.values()] == [(0.5, 3)]
    for config, options in ((good.config, ('optimizer.l=1',)), (good.config, ('=1',)), ('demo/none', ())):
        with pytest.raises(ValueError, match='Bad one'):
            load_configs(Plan((good, Variant('Bad one', config, options)), (3,)))


@pytest.mark.parametrize(
    ('dataset', 'expected'),
    [
        ({'pipeline': [SAMPLE]}, True),
        ({'pipeline': [{**SAMPLE, 'num_snippets': 1}]}, False),
        ({'pipeline': [{**SAMPLE, 'num_snippets': 1, 'frames_per_snippet': 2}]}, True),
        ({'pipeline': [SAMPLE], 'multi_hot': 3}, False),
        ({'datasets': [{'pipeline': [SAMPLE]}, {'pipeline': [SAMPLE], 'multi_hot': 3}]}, False),
    ],
)
def test_order_test_only_if_possible(program: Path, tmp_path: Path, dataset: dict, expected: bool) -> None:
    config = {'test_dataloader': {'dataset': dataset}}
    assert has_order(config) == expected
    assert run_trials(configs_of(Plan((A,), (0,)), config), tmp_path, Resources()) == []
    assert ('order' in [row[1] for row in read(program)]) == expected


@pytest.mark.parametrize('jobs', [1, 2])
def test_unusable_work_dir_fails_one_trial(program: Path, tmp_path: Path, jobs: int) -> None:
    (tmp_path / 'a_seed0').touch()
    (tmp_path / 'b_seed0').mkdir()
    (tmp_path / 'b_seed0' / RESULTS).touch()  # its checkpoints were removed, and the order test is missing
    c = Variant('C', 'c.py', ())
    failures = run_trials(configs_of(Plan((A, B, c), (0,))), tmp_path, Resources(jobs))
    assert sorted(failure[:1] for failure in failures) == ['A', 'B']
    assert any('epoch_*.pth' in failure for failure in failures)
    assert (tmp_path / 'c_seed0' / ORDER).is_file()


@pytest.mark.parametrize('jobs', [1, 2])
def test_failed_trial_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], jobs: int
) -> None:
    install(tmp_path, monkeypatch, failing='a.py')
    failures = run_trials(configs_of(Plan((A, B), (0,))), tmp_path, Resources(jobs))
    assert len(failures) == 1
    tokens = ['A, seed 0', '3']
    if jobs == 1:
        assert 'the last line' in capfd.readouterr().out, 'the output of a single job is shown'
    else:
        tokens += [str(tmp_path / 'a_seed0' / running.LOG), 'the last line']
    assert all(token in failures[0] for token in tokens)
    assert (tmp_path / 'b_seed0' / ORDER).is_file()


@pytest.mark.parametrize('jobs', [1, 2])
def test_number_of_trials_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    log = install(tmp_path, monkeypatch, seconds=0.2)
    run_trials(configs_of(Plan((A, B), (0,))), tmp_path, Resources(jobs))
    active = most = 0
    for what, *_ in read(log):
        active += {'begin': 1, 'end': -1}[what]
        most = max(most, active)
    assert most == jobs


def test_trials_share_threads_or_gpus(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.torch, 'get_num_threads', lambda: 12)
    assert Resources(2, 3).environment(1) == {'OMP_NUM_THREADS': '1'}
    assert Resources(4, 8).environment(1) == {'OMP_NUM_THREADS': '1'}
    assert Resources().environment(0) == {'OMP_NUM_THREADS': '11'}
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert Resources(2, 2, has_cuda=True).environment(1) == {'CUDA_VISIBLE_DEVICES': '2,3'}
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,7,6,1')
    assert Resources(2, 2, has_cuda=True).environment(1) == {'CUDA_VISIBLE_DEVICES': '6,1'}
    run_trials(configs_of(Plan((A,), (0,))), tmp_path, Resources(2, 2))
    assert {row[4] for row in read(program)} == {'2'}
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert Resources(2, 3).environment(1) == {}


def test_interrupt_ends_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = install(tmp_path, monkeypatch, seconds=60)

    def interrupt() -> None:
        while sum(row[0] == 'begin' for row in read(log)) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_trials(configs_of(Plan((A, B), (0,))), tmp_path, Resources(2))
    thread.join()
    assert sorted(row[2][0] for row in read(log) if row[0] == 'stopped') == ['a.py', 'b.py']
