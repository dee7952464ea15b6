import json
import logging
import random
import shutil
from pathlib import Path

import pytest
import torch

from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.engine.bad_samples import BadSampleLog
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader
from dsanet.engine.trainer import Trainer
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.json_lines import read_lines
from tests.engine.conftest import make_config
from tests.engine.test_trainer import assert_same_run, train
from tests.make_faults import cut_off, empty, noise, web_page

DEVICE = torch.device('cpu')
NUM_VIDEOS = 300


def case(name: str, line: int = 1) -> dict[str, str]:
    return {'path': name, 'reason': 'is bad', 'source': f'l.txt:{line}'}


def recorded(work_dir: Path) -> list[tuple[str, int]]:
    return [(line['path'], line['epoch']) for line in read_lines(work_dir / 'bad_samples.jsonl')]


def test_a_file_is_written_and_logged_once_and_counted_every_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    log = BadSampleLog(tmp_path, finished=0, samples=10, max_share=1)
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
    assert caplog.messages == [
        "bad sample l.txt:1: 'a': is bad",
        "bad sample l.txt:7: 'b': is bad",
        "bad sample l.txt:1: 'c': is bad",
    ]


def test_a_name_that_is_no_text_is_recorded(tmp_path: Path) -> None:
    name = b'caf\xe9.mp4'.decode('utf-8', 'surrogateescape')
    BadSampleLog(tmp_path, 0, 10, 1).add([[case(name)]])
    assert recorded(tmp_path) == [(name, 1)]


def test_a_resumed_run_keeps_the_record_of_finished_epochs(tmp_path: Path) -> None:
    log = BadSampleLog(tmp_path, 0, 10, 1)
    log.add([[case('a')]])
    log.end_epoch()
    log.add([[case('b')]])
    log.end_epoch()
    with log.file.open('a') as file:
        file.write('{"path": "c", "rea')  # killed here
    resumed = BadSampleLog(tmp_path, 1, 10, 1)
    assert recorded(tmp_path) == [('a', 1)]
    resumed.add([[case('a')], [case('b')]])
    assert recorded(tmp_path) == [('a', 1), ('b', 2)]
    BadSampleLog(tmp_path, 0, 10, 1)
    assert recorded(tmp_path) == []


def test_too_many_bad_samples_end_the_run(tmp_path: Path) -> None:
    log = BadSampleLog(tmp_path, 0, samples=10, max_share=0.2)
    log.add([[case('a', 4)], [case('b')]])
    message = (
        r"3 of 10 samples of epoch 1 could not be read, more than max_bad_share=0.2 .*The first: l.txt:4: 'a': is bad"
    )
    with pytest.raises(RuntimeError, match=message):
        log.add([[case('c')]])
    assert [path for path, _ in recorded(tmp_path)] == ['a', 'b', 'c']
    log = BadSampleLog(tmp_path, 0, samples=10, max_share=0)
    with pytest.raises(RuntimeError, match='max_bad_share=0 allows'):
        log.add([[case('a')]])
    for _ in range(3):  # the share is that of an epoch
        log = BadSampleLog(tmp_path, 0, samples=10, max_share=0.1)
        log.add([[case('a')]])
        log.end_epoch()


def test_stand_ins_that_were_bad_as_well_are_no_samples_of_their_own(tmp_path: Path) -> None:
    log = BadSampleLog(tmp_path, 0, samples=10, max_share=0.2)
    log.add([[case('a'), case('b'), case('c'), case('d')]])
    log.add([])
    assert log.progress()['count'] == 1
    log = BadSampleLog(tmp_path, 0, 10, 0.2, log.progress())
    log.add([[case('e'), case('a')]])
    assert [path for path, _ in recorded(tmp_path)] == ['a', 'b', 'c', 'd', 'e']
    with pytest.raises(RuntimeError, match=r"3 of 10 samples of epoch 1 could not be read.*The first: l.txt:1: 'a'"):
        log.add([[case('e'), case('a')]])


def test_a_process_says_that_it_judges_its_own_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, 'world_size', lambda: 4)
    with pytest.raises(RuntimeError, match='1 of 10 samples of one process of epoch 1 could not be read'):
        BadSampleLog(tmp_path, 0, 10, 0).add([[case('a')]])


def test_files_of_other_processes_are_recorded_at_the_end_of_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, 'rank', lambda rank=rank: rank)
        logs.append(BadSampleLog(tmp_path, 0, 10, 1))
    logs[1].add([[case('b')], [case('a')]])
    logs[0].add([[case('a')]])
    assert recorded(tmp_path) == [('a', 1)]
    parts = [(log._count, log._found) for log in logs]
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: parts)
    assert [log.end_epoch() for log in logs] == [3, 3]
    assert recorded(tmp_path) == [('a', 1), ('b', 1)]
    # Every process knows now what any of them has met, and does not report it again.
    assert [log.num_files for log in logs] == [2, 2]
    monkeypatch.setattr(distributed, 'rank', lambda: 1)
    assert BadSampleLog(tmp_path, 1, 10, 1).num_files == 2
    assert recorded(tmp_path) == [('a', 1), ('b', 1)]


@pytest.fixture(scope='module')
def broken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Three hundred videos, every tenth of them broken in one of five ways; and the paths of those."""
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
def test_training_on_broken_videos_ends_and_names_exactly_those(
    broken: tuple[Path, set[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    caplog.set_level(logging.INFO)
    trainer = train(one_epoch(broken, num_workers=2), tmp_path / 'run')
    lines = read_lines(tmp_path / 'run' / 'bad_samples.jsonl')
    assert {line['path'] for line in lines} == broken[1]
    assert len(lines) == len(broken[1]) == NUM_VIDEOS // 10
    for line in lines:
        assert line['source'] == f'{broken[0]}/train.txt:{int(Path(line["path"]).stem) + 1}'
        assert line['reason']
    (total,) = [s['train/bad_samples'] for s in read_lines(tmp_path / 'run' / 'scalars.jsonl') if 'train/loss' in s]
    assert total >= 30  # a bad one may have been drawn in place of another
    assert any(f'bad_samples {total}' in text and 'epoch 1/1' in text for text in caplog.messages)
    assert any(f'epoch 1/1: {total} bad samples, 30 bad files in all, see ' in text for text in caplog.messages)
    config = one_epoch(broken)
    config['test_dataloader']['dataset']['list_file'] = config['train_dataloader']['dataset']['list_file']
    loader = build_loader(config['test_dataloader'], 'test_dataloader', trainer.runtime)
    with pytest.raises(ValueError, match=r'train.txt:4: .*003.mp4'):
        predict(trainer.model, loader, DEVICE)


@pytest.mark.sweep
def test_a_run_on_broken_videos_resumes_in_the_same_bits_and_keeps_its_record(
    broken: tuple[Path, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = one_epoch(broken, epochs=2)
    config['train_dataloader']['dataset']['list_file'] = str(broken[0] / 'part.txt')
    train(config, tmp_path / 'straight')
    original = Trainer._train_epoch

    def stop_before_epoch_2(self: Trainer, *args: object) -> None:
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        original(self, *args)

    monkeypatch.setattr(Trainer, '_train_epoch', stop_before_epoch_2)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / 'resumed')
    monkeypatch.undo()
    assert len(recorded(tmp_path / 'resumed')) == 6
    train(config, tmp_path / 'resumed', resume='auto')
    one, two = (read_checkpoint(tmp_path / name / 'epoch_2.pth') for name in ('straight', 'resumed'))
    assert_same_run(one, two)
    texts = [(tmp_path / name / 'bad_samples.jsonl').read_text() for name in ('straight', 'resumed')]
    assert texts[0] == texts[1]


def test_a_run_can_be_told_to_end_at_the_first_bad_sample_or_at_a_share(
    broken: tuple[Path, set[str]], tmp_path: Path
) -> None:
    config = one_epoch(broken)
    config['train_dataloader']['on_error'] = 'raise'
    with pytest.raises(ValueError, match=r'train.txt:\d+: '):
        train(config, tmp_path / 'raise')
    assert not (tmp_path / 'raise' / 'bad_samples.jsonl').exists()
    config = one_epoch(broken)
    config['train_dataloader']['max_bad_share'] = 0.05
    with pytest.raises(
        RuntimeError, match=r'of 300 samples of epoch 1 could not be read, more than max_bad_share=0.05'
    ):
        train(config, tmp_path / 'share')
    lines = (tmp_path / 'share' / 'bad_samples.jsonl').read_text().splitlines()
    assert len([json.loads(line) for line in lines]) >= 10


def test_the_options_are_keys_of_a_config(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['train_dataloader'].update(class_balance='square_root', repeat=2, on_error='resample', max_bad_share=0.5)
    (tmp_path / 'c.py').write_text(format_config(config))
    assert load_config(tmp_path / 'c.py')['train_dataloader']['repeat'] == 2
    with pytest.raises(
        KeyError, match=r'train_dataloader.class_balanc is not an argument .*Did you mean .class_balance.'
    ):
        load_config(tmp_path / 'c.py', ['train_dataloader.class_balanc=balanced'])
    with pytest.raises(ValueError, match="train_dataloader.repeat='often' does not fit"):
        load_config(tmp_path / 'c.py', ['train_dataloader.repeat=often'])
