import argparse
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.utils.checkpoint_io import read_checkpoint
from tests.commands.conftest import ROOT, Run
from tests.engine.conftest import make_config

# Seven videos in batches of two: four batches.
SMALL = ['--cfg-options', 'test_dataloader.batch_size=2', 'test_dataloader.num_workers=0']


@pytest.fixture(scope='module')
def weights(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nobody trained, with scores that tell videos apart."""
    return save_weights(config, tmp_path_factory.mktemp('weights') / 'random.pth')


def save_weights(config: Path, file: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = build(load_config(config)['model'], MODELS, 'model')
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    torch.save({'state_dict': model.state_dict()}, file)
    return file


Test = Callable[..., str]


@pytest.fixture
def test_here(config: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Test:
    """Run the tool in this process; returns what it logged, also if it ends with an error."""
    logger = logging.getLogger('dsanet')
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)
    monkeypatch.setattr(logger, 'level', logging.INFO)

    def test(*arguments: object, checkpoint: Path = weights, options: tuple[str, ...] = ()) -> str:
        command = ['test', config, checkpoint, *arguments, *SMALL, *options]
        try:
            commands.main([str(word) for word in command])
        except SystemExit as end:
            shown = capsys.readouterr()
            return f'ends with {end.code}\n{shown.err if end.code == 2 else shown.out}'
        return capsys.readouterr().out

    return test


def die_in_batch(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let the network raise in a batch, from 0 on; returns a list that counts the batches that it has scored."""
    forward = Recognizer3D.forward
    scored: list[int] = []

    def dying(self: Recognizer3D, inputs: torch.Tensor) -> object:
        if len(scored) == number:
            raise KeyboardInterrupt
        scored.append(len(inputs))
        return forward(self, inputs)

    monkeypatch.setattr(Recognizer3D, 'forward', dying)
    return scored


def test_results_have_path_label_and_scores_of_each_video_in_order(test_here: Test, data: Path, tmp_path: Path) -> None:
    output = test_here('--out', tmp_path / 'new' / 'x.json', '--metrics-out', tmp_path / 'm.json')
    entries = json.loads((tmp_path / 'new' / 'x.json').read_text())
    lines = [line.rsplit(maxsplit=1) for line in (data / 'val.txt').read_text().splitlines()]
    assert [(e['path'], e['label']) for e in entries] == [(str(data / path), int(label)) for path, label in lines]
    assert [len(e['scores']) for e in entries] == [8] * 7
    assert {e['activation'] for e in entries} == {'softmax'}
    top1 = np.mean([np.argmax(e['scores']) == e['label'] for e in entries]) * 100
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert (metrics['num_videos'], metrics['top1']) == (7, top1)
    assert f'7 videos  top1 {top1:.2f}' in output
    assert re.search(r'7 videos scored in 0:00:\d\d, [\d.]+ videos/s', output)
    assert sorted(file.name for file in tmp_path.rglob('*') if file.is_file()) == ['m.json', 'x.json']
    test_here('--out', tmp_path / 'x.pkl')
    assert pickle.loads((tmp_path / 'x.pkl').read_bytes()) == entries
    test_here('--out', tmp_path / 'y.json', '--average-views', 'prob')
    assert {e['activation'] for e in json.loads((tmp_path / 'y.json').read_text())} == {'none'}


def test_a_checkpoint_is_enough(
    config: Path, weights: Path, test_here: Test, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {**torch.load(weights, weights_only=True), 'config': load_config(config)}
    torch.save(content, tmp_path / 'best.pth')
    for name, words in (('alone', [tmp_path / 'best.pth']), ('beside', [config, tmp_path / 'best.pth'])):
        commands.main(['test', *map(str, words), '--out', str(tmp_path / f'{name}.json'), *SMALL])
    assert 'differs' not in capsys.readouterr().out
    assert (tmp_path / 'alone.json').read_bytes() == (tmp_path / 'beside.json').read_bytes()
    output = test_here(checkpoint=tmp_path / 'best.pth', options=('model.average_views=prob',))
    assert 'model.average_views' in output


def test_checkpoint_of_other_classes_is_refused(test_here: Test, data: Path, weights: Path, tmp_path: Path) -> None:
    names = (data / 'classes.txt').read_text().splitlines()
    names[2], names[3] = names[3], names[2]
    torch.save({**torch.load(weights, weights_only=True), 'class_names': names}, tmp_path / 'x.pth')
    file = data / 'classes.txt'
    output = test_here(checkpoint=tmp_path / 'x.pth', options=(f'test_dataloader.dataset.class_file={file}',))
    assert output.startswith('ends with 2')
    assert f'class 2 is {names[2]!r}' in output


@pytest.mark.usefixtures('test_here')
@pytest.mark.parametrize(('words', 'text'), [(['x.py'], r'x\.py'), (['{weights}'], r'random\.pth')])
def test_config_or_weights_alone_are_refused(
    words: list[str], text: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['test', *(word.format(weights=weights) for word in words)])
    assert re.search(text, capsys.readouterr().err)


@pytest.mark.parametrize('die_in', [0, 2])
def test_an_older_result_stays_until_the_new_one_is_complete(
    test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, die_in: int
) -> None:
    out = tmp_path / 'x.json'
    out.write_text('an older result')
    with monkeypatch.context() as patch:
        die_in_batch(patch, die_in)
        assert test_here('--out', out).startswith('ends with 130')
    assert out.read_text() == 'an older result'
    test_here('--out', out, '--resume-test')
    assert len(json.loads(out.read_text())) == 7


@pytest.mark.parametrize('die_in', [1, 3])
def test_an_interrupted_test_goes_on_behind_the_last_finished_batch(
    test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, die_in: int
) -> None:
    straight, out = tmp_path / 'straight.pkl', tmp_path / 'x.pkl'
    test_here('--out', straight)
    with monkeypatch.context() as patch:
        die_in_batch(patch, die_in)
        assert test_here('--out', out).startswith('ends with 130')
    with monkeypatch.context() as patch:
        scored = die_in_batch(patch, 100)
        output = test_here('--out', out, '--resume-test', options=('test_dataloader.num_workers=1',))
    assert len(scored) == 4 - die_in
    assert f'{2 * die_in} of 7 videos were scored before the interruption' in output
    assert f'{7 - 2 * die_in} videos scored in' in output
    assert out.read_bytes() == straight.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ['straight.pkl', 'x.pkl']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_test_at_once_and_tells_how_to_go_on(
    test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    forward = Recognizer3D.forward
    batches = []

    def send(self: Recognizer3D, inputs: torch.Tensor) -> object:
        batches.append(len(inputs))
        if len(batches) == 2:
            os.kill(os.getpid(), number)
        return forward(self, inputs)

    monkeypatch.setattr(Recognizer3D, 'forward', send)
    text = f'stopped by {signal.Signals(number).name} within the test'
    output = test_here('--out', tmp_path / 'x.pkl')
    assert output.startswith(f'ends with {128 + number}')
    assert f'{text}; --resume-test continues with the results in {tmp_path / "x.pkl.parts"}\n' in output
    assert '2 of 7 videos were scored before the interruption' in test_here(
        '--out', tmp_path / 'x.pkl', '--resume-test'
    )
    batches.clear()
    assert test_here().endswith(f'{text}\n')


def test_a_test_that_the_launcher_starts_once_more_goes_on(
    test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        die_in_batch(patch, 1)
        assert test_here('--out', tmp_path / 'x.pkl').startswith('ends with 130')
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    assert '2 of 7 videos were scored before the interruption' in test_here('--out', tmp_path / 'x.pkl')
    assert 'no interrupted test to continue' in test_here('--out', tmp_path / 'x.pkl', '--resume-test')


def test_results_of_an_interrupted_test_are_never_mixed_with_others_or_lost_unasked(
    test_here: Test, config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts = tmp_path / 'x.pkl', tmp_path / 'x.pkl.parts'
    with monkeypatch.context() as patch:
        die_in_batch(patch, 2)
        assert test_here('--out', out).startswith('ends with 130')
    kept = (parts / 'rank_0.jsonl').read_bytes()
    text = test_here('--out', out)
    assert f'error: {parts} holds 2 finished batches of an interrupted test: continue it with --resume-test' in text
    other = save_weights(config, tmp_path / 'other.pth', seed=1)
    (tmp_path / 'list.txt').write_text(''.join((data / 'val.txt').read_text().splitlines(keepends=True)[1:]))
    start = f'error: {parts} holds results of another test: '
    for words, options, message in (
        ({'checkpoint': other}, (), r'the SHA-256 of the checkpoint was \w+ and is \w+; remove the folder'),
        ({}, ('test_dataloader.batch_size=1',), 'test_dataloader.batch_size was 2 and is 1; '),
        (
            {},
            (f'test_dataloader.dataset.list_file={tmp_path}/list.txt',),
            'dataset.list_file was .* and 1 more things differ',
        ),
        ({}, ('runtime.seed=1',), 'runtime.seed was 0 and is 1'),
        ({}, ('test_dataloader.dataset.pipeline.1.num_groups=1',), r'pipeline.1.num_groups was 2 and is 1; '),
    ):
        text = test_here('--out', out, '--resume-test', **words, options=options)
        assert text.startswith('ends with 2')
        assert re.search(re.escape(start) + '.*' + message, text), text
    for arguments, message in (
        (['--average-views', 'prob'], 'model.average_views was None and is prob'),
        (['--amp', 'bf16'], 'amp was None and is bf16'),
    ):
        assert start + message in test_here('--out', out, '--resume-test', *arguments)
    listed = (data / 'val.txt').read_text()
    try:
        (data / 'val.txt').write_text('\n'.join(reversed(listed.splitlines())))
        text = test_here('--out', out, '--resume-test')
    finally:
        (data / 'val.txt').write_text(listed)
    assert re.search(re.escape(start) + r'the SHA-256 of the list of videos was \w+ and is \w+; ', text), text
    assert (parts / 'rank_0.jsonl').read_bytes() == kept
    assert not out.exists()


def test_wrong_calls_are_named_before_anything_is_tested(test_here: Test, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.json').mkdir()
    for arguments, message in (
        (['--resume-test'], '--resume-test needs --out'),
        (['--out', tmp_path / 'x.txt'], r"x.txt' must end in .pkl or .json"),
        (['--metrics-out', tmp_path / 'x.pkl'], r"x.pkl' must end in .json"),
        (['--out', tmp_path / 'file' / 'x.pkl'], r"file/x.pkl' cannot be written: File exists"),
        (['--out', tmp_path / 'folder.json'], r"folder.json' cannot be written: it is a folder"),
    ):
        text = test_here(*arguments)
        assert text.startswith('ends with 2')
        assert re.search(message, text), text
    assert sorted(file.name for file in tmp_path.iterdir()) == ['file', 'folder.json']


def test_snippets_that_do_not_fit_are_refused_before_the_list_is_read(test_here: Test) -> None:
    options = ('test_dataloader.dataset.pipeline.1.num_snippets=4', 'test_dataloader.dataset.list_file=nowhere.txt')
    text = test_here(options=options)
    assert re.match(r'ends with 2\nerror: test_dataloader.* num_snippets=4 .* has num_snippets=2\n$', text), text


@pytest.mark.parametrize('num_workers', [0, pytest.param(1, marks=pytest.mark.sweep)])
def test_a_bad_video_ends_the_test_with_its_name_line_and_what_to_do(
    test_here: Test, config: Path, data: Path, tmp_path: Path, num_workers: int
) -> None:
    lines = (data / 'val.txt').read_text().splitlines()
    (tmp_path / 'bad.mp4').write_bytes(b'this is no video')
    (tmp_path / 'list.txt').write_text('\n'.join([*lines[:3], f'{tmp_path}/bad.mp4 1', *lines[3:]]))
    options = (f'test_dataloader.dataset.list_file={tmp_path}/list.txt', f'test_dataloader.num_workers={num_workers}')
    text = test_here('--out', tmp_path / 'x.pkl', options=options)
    error, hint = re.fullmatch(r'ends with 2\n(.*)\. A test skips no video: (.*)\n', text).groups()
    assert error.startswith(f'error: {tmp_path}/list.txt:4: ')
    assert f'{tmp_path}/bad.mp4' in error
    assert hint.endswith(f'`dsanet check {config}` finds all that are bad')
    # Repaired, the test goes on with what it had.
    (tmp_path / 'bad.mp4').write_bytes(Path(data / lines[0].rsplit(maxsplit=1)[0]).read_bytes())
    output = test_here('--out', tmp_path / 'x.pkl', '--resume-test', options=options)
    assert '2 of 8 videos were scored before the interruption' in output
    assert len(pickle.loads((tmp_path / 'x.pkl').read_bytes())) == 8


@pytest.fixture(scope='session')
def sensitive(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config and weights of a network large enough to round differently in batches of other sizes."""
    folder = tmp_path_factory.mktemp('sensitive')
    config = make_config(data, num_workers=1)
    config['model']['backbone']['base_channels'] = 64
    config['model']['cls_head']['in_channels'] = 512
    (folder / 'config.py').write_text(format_config(config))
    return folder / 'config.py', save_weights(folder / 'config.py', folder / 'random.pth')


@pytest.mark.sweep
def test_evaluation_is_the_same_to_the_bit_on_one_two_and_three_processes(
    run: Run, sensitive: tuple[Path, Path], tmp_path: Path
) -> None:
    numbers, results = set(), set()
    for processes in (1, 2, 3):
        out, metrics = tmp_path / f'{processes}.json', tmp_path / f'metrics_{processes}.json'
        done = run('dist_test_recognizer.sh', *sensitive, processes, '--out', out, '--metrics-out', metrics)
        results.add(out.read_bytes())
        numbers.add((re.search(r'7 videos  (top1 .*)', done.stdout)[1], metrics.read_bytes()))
    assert len(results) == len(numbers) == 1


@pytest.mark.sweep
def test_a_killed_test_on_two_processes_is_continued_on_three(
    run: Run, sensitive: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ['--cfg-options', 'test_dataloader.batch_size=1']
    run('dist_test_recognizer.sh', *sensitive, 1, '--out', tmp_path / 'straight.json', *options)
    out, parts = tmp_path / 'x.json', tmp_path / 'x.json.parts'
    out.write_text('an older result')
    command = ['tools/launch.py', 2, 'tests/commands/score_and_die.py', 2, *sensitive, '--out', out, *options]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    killed = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=environment, check=False)
    assert killed.returncode != 0
    # A whole line is written at once, and the other process may have been ended anywhere.
    finished = sum(file.read_text().count('"batch": ') for file in parts.iterdir())
    assert 2 <= finished < 7
    assert out.read_text() == 'an older result'
    done = run('dist_test_recognizer.sh', *sensitive, 3, '--out', out, '--resume-test', *options)
    assert f'{finished} of 7 videos were scored before the interruption' in done.stdout
    assert out.read_bytes() == (tmp_path / 'straight.json').read_bytes()
    assert not parts.exists()


@pytest.mark.sweep
def test_a_bad_video_ends_all_processes(run: Run, config: Path, weights: Path, data: Path, tmp_path: Path) -> None:
    lines = (data / 'val.txt').read_text().splitlines()
    (tmp_path / 'list.txt').write_text('\n'.join([*lines[:5], 'nowhere.mp4 1', *lines[5:]]))
    option = f'test_dataloader.dataset.list_file={tmp_path}/list.txt'
    done = run('dist_test_recognizer.sh', config, weights, 2, '--cfg-options', option, check=False)
    assert done.returncode != 0
    assert done.stderr.count(f'error: {tmp_path}/list.txt:6: {data}/nowhere.mp4') == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.sweep
def test_options_of_the_tests_command_take_effect(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--average-views', 'prob', '--max-views-per-forward', 1, '--amp', 'bf16']
    run('dist_test_recognizer.sh', config, straight / 'best.pth', 1, '--out', tmp_path / 'x.json', *options)
    scores = np.array([r['scores'] for r in json.loads((tmp_path / 'x.json').read_text())])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-4)


@pytest.mark.sweep
def test_a_checkpoint_that_needs_code_is_tested_if_that_is_allowed(
    run: Run, config: Path, straight: Path, tmp_path: Path
) -> None:
    state = read_checkpoint(straight / 'best.pth')['state_dict']
    torch.save({'state_dict': state, 'args': argparse.Namespace(lr=0.1)}, tmp_path / 'old.pth')
    done = run('dist_test_recognizer.sh', config, tmp_path / 'old.pth', 1, '--allow-pickle')
    assert 'holds argparse.Namespace; because of --allow-pickle' in done.stdout + done.stderr
    assert re.search(r'7 videos  top1 ', done.stdout)
