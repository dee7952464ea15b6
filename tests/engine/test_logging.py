import errno
import json
import logging
import os
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsanet.engine.logging import ScalarWriter, exit_on_user_error, setup_logging
from dsanet.utils import distributed
from dsanet.utils.json_lines import read_json_lines
from tests.as_processes import set_variables


def test_scalars_reach_tensorboard_and_json_lines(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path, is_main=True)
    writer.write('train', {'loss': 2.0, 'lr': 0.1}, epoch=1, iteration=20)
    writer.write('val', {'top1': 50.0}, epoch=1, iteration=30)
    writer.close()
    assert read_json_lines(tmp_path / 'scalars.jsonl') == [
        {'epoch': 1, 'iteration': 20, 'train/loss': 2.0, 'train/lr': 0.1},
        {'epoch': 1, 'iteration': 30, 'val/top1': 50.0},
    ]
    board = EventAccumulator(str(tmp_path / 'tensorboard'))
    board.Reload()
    assert set(board.Tags()['scalars']) == {'train/loss', 'train/lr', 'val/top1'}
    assert [(e.step, e.value) for e in board.Scalars('val/top1')] == [(30, 50.0)]


def test_later_files_of_tensorboard_have_later_names(tmp_path: Path) -> None:
    """Also if the number in the names, which counts the files of a process, gets another digit."""
    names: list[str] = []
    for _ in range(3):
        ScalarWriter(tmp_path, is_main=True).close()
        names += sorted({file.name for file in (tmp_path / 'tensorboard').iterdir()} - set(names))
    assert names == sorted(names)
    seconds = {name.split('.')[3] for name in names}
    assert len(seconds) == len(names) == 3


def test_resumed_run_replaces_later_lines(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path, is_main=True)
    for iteration in (10, 20, 30):
        writer.write('train', {'loss': 1.0}, epoch=1, iteration=iteration)
    writer.close()
    with (tmp_path / 'scalars.jsonl').open('a') as file:
        file.write('{"epoch": 1, "itera')  # power failure
    writer = ScalarWriter(tmp_path, is_main=True, iteration=20)
    writer.write('train', {'loss': 0.5}, epoch=1, iteration=30)
    writer.close()
    lines = [json.loads(line) for line in (tmp_path / 'scalars.jsonl').read_text().splitlines()]
    assert [(line['iteration'], line['train/loss']) for line in lines] == [(10, 1.0), (20, 1.0), (30, 0.5)]
    board = EventAccumulator(str(tmp_path / 'tensorboard'))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars('train/loss')] == [(10, 1.0), (20, 1.0), (30, 0.5)]


def test_repeated_validation_is_written_once(tmp_path: Path) -> None:
    with ScalarWriter(tmp_path, is_main=True) as writer:
        writer.write('train', {'loss': 1.0}, epoch=1, iteration=10)
        writer.write('val', {'top1': 50.0}, epoch=1, iteration=10)
    for validated, num_lines in ((True, 2), (False, 1)):
        ScalarWriter(tmp_path, is_main=True, iteration=10, validated=validated).close()
        assert len(read_json_lines(tmp_path / 'scalars.jsonl')) == num_lines


@pytest.mark.parametrize(
    ('rank', 'text'), [('0', "error: it's x\n$"), ('1', "error: it's x\n$"), ('2', "error .*2 .*: it's x\n$")]
)
def test_usage_errors_are_one_line(
    rank: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_variables(monkeypatch, RANK=rank, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2)
    with pytest.raises(SystemExit, match='^2$'), exit_on_user_error():
        raise KeyError("it's x")
    error = capsys.readouterr().err
    assert re.match(text, error)


@pytest.mark.parametrize(
    ('error', 'status'),
    [(MemoryError(), 1), (OSError(errno.ENOSPC, 'disk full', 'x'), 1), (PermissionError(errno.EACCES, 'no', 'x'), 2)],
)
def test_machine_fault_is_one_line_with_status_1(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=f'^{status}$'), exit_on_user_error():
        raise error
    assert re.fullmatch(r'error: .+\n', capsys.readouterr().err)


def test_wrong_rank_is_reported_as_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('RANK', 'x')
    with pytest.raises(SystemExit, match='^2$'), exit_on_user_error():
        distributed.rank()
    assert capsys.readouterr().err.startswith('error: ')


def test_launched_process_reports_usage_error_to_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    with pytest.raises(SystemExit, match='^2$'), exit_on_user_error():
        raise ValueError('x')
    assert capsys.readouterr().err == ''
    assert json.loads((tmp_path / 'error.json').read_text())['message']['message'] == 'error: x'


def test_other_ranks_write_no_scalars(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path, is_main=False)
    writer.write('train', {'loss': 1.0}, epoch=1, iteration=1)
    writer.close()
    assert not list(tmp_path.iterdir())


def test_log_goes_to_console_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_logging(tmp_path)
    logging.getLogger('dsanet.engine').info('hello')
    monkeypatch.setattr(distributed, 'rank', lambda: 1)
    setup_logging()
    logging.getLogger('dsanet.engine').info('not from rank 1')
    logging.getLogger('dsanet.engine').warning('warning from rank 1')
    assert (tmp_path / 'run.log').read_text().endswith('  hello\n')
    out = capsys.readouterr().out
    assert 'hello' in out
    assert 'warning from rank 1' in out
    assert 'not from rank 1' not in out


def test_every_rank_has_its_log_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, 'rank', lambda: 3)
    setup_logging(tmp_path)
    logging.getLogger('dsanet.engine').info('from rank 3')
    logging.getLogger('dsanet.engine').error('a traceback', extra={'file_only': True})
    lines = (tmp_path / 'run.rank3.log').read_text().splitlines()
    assert [line.split('  ')[1] for line in lines] == ['from rank 3', 'a traceback']
    assert capsys.readouterr().out == ''


def test_work_dir_need_not_be_utf8(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work_dir = tmp_path / os.fsdecode(b'caf\xe9')
    work_dir.mkdir()
    with ScalarWriter(work_dir, is_main=True) as writer:
        writer.write('train', {'loss': 1.0}, 1, 1)
    assert len((work_dir / 'scalars.jsonl').read_text().splitlines()) == 1
    assert len(caplog.messages) == 1


def test_log_escapes_text_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger('dsanet')
    for name in ('handlers', 'propagate', 'level'):
        monkeypatch.setattr(logger, name, list(logger.handlers) if name == 'handlers' else getattr(logger, name))
    setup_logging(tmp_path)
    logger.info('bad sample %s', os.fsdecode(b'\x1b[31mcaf\xe9\n2024 top1 99'))
    for handler in logger.handlers:
        handler.close()
    text = (tmp_path / 'run.log').read_text()
    assert text.endswith('bad sample \\x1b[31mcaf\\udce9\n    2024 top1 99\n')
