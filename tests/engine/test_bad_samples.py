import json
import logging
import random
import shutil
from pathlib import Path

import pytest

from dsanet.engine.bad_samples import BadSampleLog
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader
from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.json_lines import read_json_lines
from tests.engine.conftest import DEVICE, assert_same_run, make_config, train, train_until
from tests.make_faults import cut_off, empty, noise, web_page

NUM_VIDEOS = 300


@pytest.fixture(autouse=True)
def _propagating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)


def make_log(work_dir: Path, epoch: int = 0, max_share: float = 1) -> BadSampleLog:
    return BadSampleLog(work_dir, epoch, num_samples=10, max_share=max_share)


def case(name: str, line: int = 1) -> dict[str, str]:
    return {'path': name, 'reason': 'is bad', 'source': f'l.txt:{line}'}


def recorded(work_dir: Path) -> list[tuple[str, int]]:
    return [(line['path'], line['epoch']) for line in read_json_lines(work_dir / 'bad_samples.jsonl')]


def test_files_are_recorded_once_and_counted_always(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = make_log(tmp_path)
    log.add([])
    assert not log.file.exists()
    log.add([[case('a')], [case('b', 7)]])
    log.add([[case('a')]])
    assert log.file.read_text() == (
        '{"path": "a", "reason": "is bad", "source": "l.txt:1", "epoch": 1}\n'
        '{"path": "b", "reason": "is bad", "source": "l.txt:7", "epoch": 1}\n'
    )
    assert log.end_epoch() == 3
    log.add([[case('b', 7)], [case('c')]])
    assert log.end_epoch() == 2
    assert log.end_epoch() == 0
    assert recorded(tmp_path) == [('a', 1), ('b', 1), ('c', 2)]
    assert log.num_files == 3
    assert len(caplog.messages) == 3
    for message, token in zip(caplog.messages, ("l.txt:1: 'a'", "l.txt:7: 'b'", "l.txt:1: 'c'"), strict=True):
        assert token in message


def test_undecodable_file_name_is_recorded(tmp_path: Path) -> None:
    name = b'caf\xe9.mp4'.decode('utf-8', 'surrogateescape')
    make_log(tmp_path).add([[case(name)]])
    assert recorded(tmp_path) == [(name, 1)]


def test_resumed_run_keeps_lines_of_completed_epochs(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    log.add([[case('a')]])
    log.end_epoch()
    log.add([[case('b')]])
    log.end_epoch()
    with log.file.open('a') as file:
        file.write('{"path": "c", "rea')  # killed here
    resumed = make_log(tmp_path, epoch=1)
    assert recorded(tmp_path) == [('a', 1)]
    resumed.add([[case('a')], [case('b')]])
    assert recorded(tmp_path) == [('a', 1), ('b', 2)]
    make_log(tmp_path)
    assert recorded(tmp_path) == []


def test_too_many_bad_samples_end_run(tmp_path: Path) -> None:
    log = make_log(tmp_path, max_share=0.2)
    log.add([[case('a', 4)], [case('b')]])
    with pytest.raises(RunError, match=r"3 of 10 .*epoch 1 .*max_bad_share=0\.2.*l\.txt:4: 'a': is bad"):
        log.add([[case('c')]])
    assert [path for path, _ in recorded(tmp_path)] == ['a', 'b', 'c']
    with pytest.raises(RunError, match='max_bad_share=0 '):
        make_log(tmp_path, max_share=0).add([[case('a')]])
    log = make_log(tmp_path, max_share=0.1)
    for _ in range(3):  # the share is that of an epoch
        log.add([[case('a')]])
        log.end_epoch()


def test_bad_replacements_are_not_counted(tmp_path: Path) -> None:
    log = make_log(tmp_path, max_share=0.2)
    log.add([[case('a'), case('b'), case('c'), case('d')]])
    log.add([[case('e'), case('a')]])
    assert [path for path, _ in recorded(tmp_path)] == ['a', 'b', 'c', 'd', 'e']
    with pytest.raises(RunError, match=r'3 of 10 '):
        log.add([[case('e'), case('a')]])


def test_state_dict_round_trip(tmp_path: Path) -> None:
    log = make_log(tmp_path, max_share=0.2)
    log.add([[case('a', 4), case('b')]])
    state = json.loads(json.dumps(log.state_dict()))
    resumed = make_log(tmp_path, max_share=0.2)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == log.state_dict()
    assert recorded(tmp_path) == [('a', 1), ('b', 1)]
    assert resumed.num_files == 2
    resumed.add([[case('c')]])
    with pytest.raises(RunError, match=r"3 of 10 .*l\.txt:4: 'a'"):
        resumed.add([[case('d')]])


def test_process_checks_its_own_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, 'world_size', lambda: 4)
    monkeypatch.setattr(distributed, 'rank', lambda: 3)
    with pytest.raises(RunError, match='1 of 10 .*process 3 .*epoch 1 '):
        make_log(tmp_path, max_share=0).add([[case('a')]])


def test_files_of_all_processes_merge_after_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, 'rank', lambda rank=rank: rank)
        logs.append(make_log(tmp_path))
    logs[1].add([[case('b')], [case('a')]])
    logs[0].add([[case('a')]])
    assert recorded(tmp_path) == [('a', 1)]
    parts = [(log._count, log._found) for log in logs]
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: parts)
    assert [log.end_epoch() for log in logs] == [3, 3]
    assert recorded(tmp_path) == [('a', 1), ('b', 1)]
    # All processes know all files now, and do not log them again.
    assert [log.num_files for log in logs] == [2, 2]
    assert make_log(tmp_path, epoch=1).num_files == 2
    assert recorded(tmp_path) == [('a', 1), ('b', 1)]


@pytest.fixture(scope='module')
def broken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The folder of 300 videos, every tenth of them broken in one of five ways; and the broken paths."""
    root = tmp_path_factory.mktemp('broken')
    originals = sorted(data.rglob('*.mp4'))
    rng = random.Random(0)
    lines, paths = [], set()
    for n in range(NUM_VIDEOS):
        original = originals[n % len(originals)]
        file = root / f'{n:03d}.mp4'
        if n % 10 == 3:
            paths.add(str(file))
            fault = (cut_off, empty, noise, web_page, None)[n // 10 % 5]  # None: the file is missing
            if fault is not None:
                file.write_bytes(fault(original.read_bytes()[:-800], rng))
        else:
            shutil.copy(original, file)
        lines.append(f'{file.name} {n % 8}\n')
    (root / 'train.txt').write_text(''.join(lines))
    (root / 'part.txt').write_text(''.join(lines[:60]))
    (root / 'val.txt').write_text(''.join(line for n, line in enumerate(lines[:20]) if n % 10 != 3))
    return root, paths


def one_epoch(broken: tuple[Path, set[str]], num_workers: int = 0, epochs: int = 1) -> dict:
    config = make_config(broken[0], num_workers, train_cfg={'max_epochs': epochs}, runtime={'log_interval': 100})
    config['train_dataloader']['batch_size'] = 20
    return config


@pytest.mark.sweep
def test_training_names_exactly_the_broken_videos(
    broken: tuple[Path, set[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trainer = train(one_epoch(broken, num_workers=2), tmp_path / 'run')
    lines = read_json_lines(tmp_path / 'run' / 'bad_samples.jsonl')
    assert {line['path'] for line in lines} == broken[1]
    assert len(lines) == len(broken[1]) == NUM_VIDEOS // 10
    for line in lines:
        assert line['source'] == f'{broken[0]}/train.txt:{int(Path(line["path"]).stem) + 1}'
        assert line['reason']
    (total,) = [
        s['train/bad_samples'] for s in read_json_lines(tmp_path / 'run' / 'scalars.jsonl') if 'train/loss' in s
    ]
    assert total >= 30  # a replacement may be bad, too
    assert any(f'bad_samples {total}' in text for text in caplog.messages)
    config = one_epoch(broken)
    config['test_dataloader']['dataset']['list_file'] = config['train_dataloader']['dataset']['list_file']
    loader = build_loader(config['test_dataloader'], 'test_dataloader', trainer.runtime)
    with pytest.raises(ValueError, match=r'train\.txt:4: .*003\.mp4'):
        predict(trainer.model, loader, DEVICE)


@pytest.mark.sweep
def test_run_with_bad_samples_resumes_bit_identically(broken: tuple[Path, set[str]], tmp_path: Path) -> None:
    config = one_epoch(broken, epochs=2)
    config['train_dataloader']['dataset']['list_file'] = str(broken[0] / 'part.txt')
    train(config, tmp_path / 'straight')
    train_until(config, tmp_path / 'resumed', iteration=3)
    assert len(recorded(tmp_path / 'resumed')) == 6
    train(config, tmp_path / 'resumed', resume='auto')
    assert_same_run(*(read_checkpoint(tmp_path / name / 'epoch_2.pth') for name in ('straight', 'resumed')))
    one, two = ((tmp_path / name / 'bad_samples.jsonl').read_text() for name in ('straight', 'resumed'))
    assert one == two


def test_options_end_run_at_bad_samples(broken: tuple[Path, set[str]], tmp_path: Path) -> None:
    config = one_epoch(broken)
    config['train_dataloader']['on_error'] = 'raise'
    with pytest.raises(ValueError, match=r'train\.txt:\d+: '):
        train(config, tmp_path / 'raise')
    assert not (tmp_path / 'raise' / 'bad_samples.jsonl').exists()
    config = one_epoch(broken)
    config['train_dataloader']['max_bad_share'] = 0.05
    with pytest.raises(RunError, match=r' of 300 .*epoch 1 .*max_bad_share=0\.05'):
        train(config, tmp_path / 'share')
    assert len(read_json_lines(tmp_path / 'share' / 'bad_samples.jsonl')) >= 10
