import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.evaluation.result_files import read_results
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.utils.file_lock import FileLock
from tests.commands.conftest import ROOT, Run
from tests.engine.conftest import make_config
from tests.make_odd_videos import remux

# Seven videos in batches of two: four batches.
SMALL = ['--cfg-options', 'test_dataloader.batch_size=2', 'test_dataloader.num_workers=0']


@pytest.fixture(scope='module')
def weights(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights that give each video different scores."""
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
    """Run the command in this process; return its log, or 'exit status N' and its errors or log."""
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
            return f'exit status {end.code}\n{shown.err if end.code == 2 else shown.out}'
        return capsys.readouterr().out

    return test


def interrupt_batch(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Raise KeyboardInterrupt in a batch, counted from 0; return a list that gets the size of each scored batch."""
    forward = Recognizer3D.forward
    sizes: list[int] = []

    def forward_or_raise(self: Recognizer3D, inputs: torch.Tensor) -> object:
        if len(sizes) == number:
            raise KeyboardInterrupt
        sizes.append(len(inputs))
        return forward(self, inputs)

    monkeypatch.setattr(Recognizer3D, 'forward', forward_or_raise)
    return sizes


def test_results_are_in_dataset_order(test_here: Test, data: Path, tmp_path: Path) -> None:
    output = test_here('--out', tmp_path / 'new' / 'x.json', '--metrics-out', tmp_path / 'm.json')
    entries = json.loads((tmp_path / 'new' / 'x.json').read_text())
    lines = [line.rsplit(maxsplit=1) for line in (data / 'val.txt').read_text().splitlines()]
    assert [(e['path'], e['label']) for e in entries] == [(str(data / path), int(label)) for path, label in lines]
    assert [len(e['scores']) for e in entries] == [8] * 7
    assert {e['activation'] for e in entries} == {'softmax'}
    top1 = np.mean([np.argmax(e['scores']) == e['label'] for e in entries]) * 100
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert (metrics['num_videos'], metrics['top1']) == (7, top1)
    assert f'top1 {top1:.2f}' in output
    largest = max(Counter(int(label) for _, label in lines).values())
    assert re.search(rf'most frequent class: top1 {100 * largest / 7:.2f}\n', output)
    assert re.search(r'7 samples.* 0:00:\d\d, [\d.]+ samples/s', output)
    assert sorted(file.name for file in tmp_path.rglob('*') if file.is_file()) == ['m.json', 'x.json']
    test_here('--out', tmp_path / 'x.pkl')
    assert pickle.loads((tmp_path / 'x.pkl').read_bytes()) == entries
    test_here('--out', tmp_path / 'y.json', '--average-views', 'prob')
    assert {e['activation'] for e in json.loads((tmp_path / 'y.json').read_text())} == {'none'}


def test_predictions_equal_the_test(test_here: Test, config: Path, weights: Path, data: Path, tmp_path: Path) -> None:
    test_here('--out', tmp_path / 'test.json')
    options = ['--config', config, '--data-root', data, '--topk', 8, '--json', tmp_path / 'predict.json']
    assert commands.main(['predict', *map(str, [weights, data / 'val.txt', *options]), *SMALL]) == 0
    tested, predicted = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('test', 'predict'))
    assert [row['path'] for row in tested] == [row['video'] for row in predicted]
    for row, result in zip(tested, predicted, strict=True):
        assert {str(k): score for k, score in enumerate(row['scores'])} == dict(
            zip(result['labels'], result['scores'], strict=True)
        )


def test_checkpoint_contains_its_config(
    config: Path, weights: Path, test_here: Test, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {**torch.load(weights, weights_only=True), 'config': load_config(config)}
    torch.save(content, tmp_path / 'best.pth')
    for name, argv in (('without', [tmp_path / 'best.pth']), ('with', [config, tmp_path / 'best.pth'])):
        commands.main(['test', *map(str, argv), '--out', str(tmp_path / f'{name}.json'), *SMALL])
    assert (tmp_path / 'without.json').read_bytes() == (tmp_path / 'with.json').read_bytes()
    assert 'model.average_views' not in capsys.readouterr().out
    output = test_here(checkpoint=tmp_path / 'best.pth', options=('model.average_views=prob',))
    assert 'model.average_views' in output


def test_checkpoint_of_other_classes_is_an_error(test_here: Test, data: Path, weights: Path, tmp_path: Path) -> None:
    names = (data / 'classes.txt').read_text().splitlines()
    names[2], names[3] = names[3], names[2]
    torch.save({**torch.load(weights, weights_only=True), 'class_names': names}, tmp_path / 'x.pth')
    file = data / 'classes.txt'
    output = test_here(checkpoint=tmp_path / 'x.pth', options=(f'test_dataloader.dataset.class_file={file}',))
    assert output.startswith('exit status 2')
    assert re.search(rf' 2 .*{names[2]!r}.*x\.pth.*classes\.txt', output)


def test_results_have_class_names(test_here: Test, data: Path, weights: Path, tmp_path: Path) -> None:
    names = (data / 'classes.txt').read_text().splitlines()
    out = tmp_path / 'x.json'
    test_here('--out', out, options=(f'test_dataloader.dataset.class_file={data / "classes.txt"}',))
    assert read_results(out).class_names == names  # of the data
    torch.save({**torch.load(weights, weights_only=True), 'class_names': names[::-1]}, tmp_path / 'x.pth')
    test_here('--out', out, checkpoint=tmp_path / 'x.pth')
    assert read_results(out).class_names == names[::-1]  # of the checkpoint
    test_here('--out', out)
    assert read_results(out).class_names is None


def test_duplicate_videos_are_refused_with_out(test_here: Test, data: Path, tmp_path: Path) -> None:
    lines = (data / 'val.txt').read_text().splitlines()
    (tmp_path / 'twice.txt').write_text('\n'.join([*lines, lines[1]]))
    options = (f'test_dataloader.dataset.list_file={tmp_path / "twice.txt"}',)
    output = test_here('--out', tmp_path / 'x.json', options=options)
    assert output.startswith('exit status 2')
    assert lines[1].split()[0] in output
    assert not (tmp_path / 'x.json').exists()
    assert 'top1' in test_here(options=options)


@pytest.mark.usefixtures('test_here')
@pytest.mark.parametrize(('argv', 'text'), [(['x.py'], r'x\.py'), (['{weights}'], r'random\.pth')])
def test_config_or_weights_alone_is_an_error(
    argv: list[str], text: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['test', *(word.format(weights=weights) for word in argv)])
    assert re.search(text, capsys.readouterr().err)


def test_old_results_are_kept_until_the_end(test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / 'x.json'
    out.write_text('old results')
    with monkeypatch.context() as patch:
        interrupt_batch(patch, 2)
        assert test_here('--out', out).startswith('exit status 130')
    assert out.read_text() == 'old results'
    test_here('--out', out, '--resume-test')
    assert len(json.loads(out.read_text())) == 7


@pytest.mark.parametrize('batch', [0, 1, 3])
def test_resumed_test_scores_only_the_remaining_batches(
    test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    uninterrupted, out = tmp_path / 'uninterrupted.pkl', tmp_path / 'x.pkl'
    test_here('--out', uninterrupted)
    with monkeypatch.context() as patch:
        interrupt_batch(patch, batch)
        assert test_here('--out', out).startswith('exit status 130')
    with monkeypatch.context() as patch:
        sizes = interrupt_batch(patch, 100)
        output = test_here('--out', out, '--resume-test', options=('test_dataloader.num_workers=1',))
    assert len(sizes) == 4 - batch
    assert (f' {2 * batch} of 7 ' in output) == (batch > 0)
    assert re.search(rf' {7 - 2 * batch} samples.* samples/s', output)
    assert out.read_bytes() == uninterrupted.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ['uninterrupted.pkl', 'x.pkl']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_test_at_once(
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
    output = test_here('--out', tmp_path / 'x.pkl')
    assert output.startswith(f'exit status {128 + number}')
    last = output.splitlines()[-1]
    for token in (signal.Signals(number).name, '--resume-test', str(tmp_path / 'x.pkl.parts')):
        assert token in last
    assert ' 2 of 7 ' in test_here('--out', tmp_path / 'x.pkl', '--resume-test')
    batches.clear()
    last = test_here().splitlines()[-1]
    assert signal.Signals(number).name in last
    assert '--resume-test' not in last


def test_restarted_test_resumes_without_the_option(
    test_here: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_batch(patch, 1)
        assert test_here('--out', tmp_path / 'x.pkl').startswith('exit status 130')
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    assert ' 2 of 7 ' in test_here('--out', tmp_path / 'x.pkl')
    assert ' of 7 ' not in test_here('--out', tmp_path / 'x.pkl', '--resume-test'), 'the first test is complete'


def test_partial_results_are_not_mixed_or_lost(
    test_here: Test, config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts = tmp_path / 'x.pkl', tmp_path / 'x.pkl.parts'
    with monkeypatch.context() as patch:
        interrupt_batch(patch, 2)
        assert test_here('--out', out).startswith('exit status 130')
    kept = (parts / 'rank_0.jsonl').read_bytes()
    text = test_here('--out', out)
    assert re.search(f'error: .*{parts} .*2 .*--resume-test', text)
    other = save_weights(config, tmp_path / 'other.pth', seed=1)
    (tmp_path / 'list.txt').write_text(''.join((data / 'val.txt').read_text().splitlines(keepends=True)[1:]))
    for arguments, checkpoint, options, message in (
        ([], other, [], 'SHA-256 of the checkpoint'),
        ([], None, ['test_dataloader.batch_size=1'], r'test_dataloader\.batch_size .*2 .*1'),
        ([], None, [f'test_dataloader.dataset.list_file={tmp_path}/list.txt'], r'dataset\.list_file .*list\.txt.* 1 '),
        ([], None, ['runtime.seed=1'], r'runtime\.seed .*0 .*1'),
        ([], None, ['test_dataloader.dataset.pipeline.1.num_groups=1'], r'pipeline\.1\.num_groups .*2 .*1'),
        (['--average-views', 'prob'], None, [], r'model\.average_views .*prob'),
        (['--amp', 'bf16'], None, [], 'amp .*bf16'),
    ):
        override = {} if checkpoint is None else {'checkpoint': checkpoint}
        text = test_here('--out', out, '--resume-test', *arguments, **override, options=tuple(options))
        assert text.startswith('exit status 2')
        assert re.search(f'error: .*{parts} .*{message}', text), text
    listed = (data / 'val.txt').read_text()
    try:
        (data / 'val.txt').write_text('\n'.join(reversed(listed.splitlines())))
        text = test_here('--out', out, '--resume-test')
    finally:
        (data / 'val.txt').write_text(listed)
    assert re.search(f'error: .*{parts} .*SHA-256 of the list of videos', text), text
    assert (parts / 'rank_0.jsonl').read_bytes() == kept
    assert not out.exists()


def test_invalid_arguments_are_reported_first(test_here: Test, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.json').mkdir()
    for arguments, message in (
        (['--resume-test'], '--resume-test .*--out'),
        (['--out', tmp_path / 'x.txt'], r"--out: .*x\.txt' .*\.pkl .*\.json"),
        (['--metrics-out', tmp_path / 'x.pkl'], r"--metrics-out: .*x\.pkl' .*\.json"),
        (['--out', tmp_path / 'file' / 'x.pkl'], r"--out: .*file/x\.pkl'"),
        (['--out', tmp_path / 'folder.json'], r"--out: .*folder\.json'"),
    ):
        text = test_here(*arguments)
        assert text.startswith('exit status 2')
        assert re.search(message, text), text
    assert sorted(file.name for file in tmp_path.iterdir()) == ['file', 'folder.json']


def test_clip_shape_is_checked_before_the_list(test_here: Test) -> None:
    options = ('test_dataloader.dataset.pipeline.1.num_snippets=4', 'test_dataloader.dataset.list_file=nowhere.txt')
    text = test_here(options=options)
    assert re.match(r'exit status 2\nerror: test_dataloader.* num_snippets=4 .* num_snippets=2\n$', text), text


@pytest.mark.parametrize('num_workers', [0, pytest.param(1, marks=pytest.mark.sweep)])
def test_bad_video_stops_the_test(test_here: Test, config: Path, data: Path, tmp_path: Path, num_workers: int) -> None:
    lines = (data / 'val.txt').read_text().splitlines()
    (tmp_path / 'bad.mp4').write_bytes(b'not a video')
    (tmp_path / 'list.txt').write_text('\n'.join([*lines[:3], f'{tmp_path}/bad.mp4 1', *lines[3:]]))
    options = (f'test_dataloader.dataset.list_file={tmp_path}/list.txt', f'test_dataloader.num_workers={num_workers}')
    text = test_here('--out', tmp_path / 'x.pkl', options=options)
    assert text.startswith(f'exit status 2\nerror: {tmp_path}/list.txt:4: ')
    assert f'{tmp_path}/bad.mp4' in text
    assert f'dsanet check {config}' in text
    # The test continues after the video is repaired.
    (tmp_path / 'bad.mp4').write_bytes(Path(data / lines[0].rsplit(maxsplit=1)[0]).read_bytes())
    output = test_here('--out', tmp_path / 'x.pkl', '--resume-test', options=options)
    assert ' 2 of 8 ' in output
    assert len(pickle.loads((tmp_path / 'x.pkl').read_bytes())) == 8


@pytest.fixture(scope='session')
def sensitive(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config and weights of a network whose rounding errors depend on the batch size."""
    folder = tmp_path_factory.mktemp('sensitive')
    config = make_config(data, num_workers=1)
    config['model']['backbone']['base_channels'] = 64
    config['model']['cls_head']['in_channels'] = 512
    (folder / 'config.py').write_text(format_config(config))
    return folder / 'config.py', save_weights(folder / 'config.py', folder / 'random.pth')


@pytest.mark.sweep
def test_results_do_not_depend_on_processes(run: Run, sensitive: tuple[Path, Path], tmp_path: Path) -> None:
    numbers, results = set(), set()
    for processes in (1, 2, 3):
        out, metrics = tmp_path / f'{processes}.json', tmp_path / f'metrics_{processes}.json'
        done = run('dist_test_recognizer.sh', *sensitive, processes, '--out', out, '--metrics-out', metrics)
        results.add(out.read_bytes())
        numbers.add((re.search(r'top1 .*', done.stdout)[0], metrics.read_bytes()))
    assert len(results) == len(numbers) == 1


@pytest.mark.sweep
def test_test_killed_on_two_processes_resumes_on_three(run: Run, sensitive: tuple[Path, Path], tmp_path: Path) -> None:
    options = ['--cfg-options', 'test_dataloader.batch_size=1']
    run('dist_test_recognizer.sh', *sensitive, 1, '--out', tmp_path / 'uninterrupted.json', *options)
    out, parts = tmp_path / 'x.json', tmp_path / 'x.json.parts'
    out.write_text('old results')
    command = ['tools/launch.py', 2, 'tests/commands/score_and_die.py', 2, *sensitive, '--out', out, *options]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    killed = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=environment, check=False)
    assert killed.returncode != 0
    # Each line is written at once; rank 1 may have been stopped after any batch.
    finished = sum(file.read_text().count('"batch": ') for file in parts.iterdir())
    assert 2 <= finished < 7
    assert out.read_text() == 'old results'
    done = run('dist_test_recognizer.sh', *sensitive, 3, '--out', out, '--resume-test', *options)
    assert f' {finished} of 7 ' in done.stdout
    assert out.read_bytes() == (tmp_path / 'uninterrupted.json').read_bytes()
    assert not parts.exists()


@pytest.mark.sweep
def test_bad_video_stops_all_processes(run: Run, config: Path, weights: Path, data: Path, tmp_path: Path) -> None:
    lines = (data / 'val.txt').read_text().splitlines()
    (tmp_path / 'list.txt').write_text('\n'.join([*lines[:5], 'nowhere.mp4 1', *lines[5:]]))
    option = f'test_dataloader.dataset.list_file={tmp_path}/list.txt'
    done = run('dist_test_recognizer.sh', config, weights, 2, '--cfg-options', option, check=False)
    assert done.returncode != 0
    assert len(re.findall(f'error: {tmp_path}/list.txt:6: .*{data}/nowhere.mp4', done.stderr)) == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.sweep
def test_options_take_effect(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--average-views', 'prob', '--max-views-per-forward', 1, '--amp', 'bf16']
    run('dist_test_recognizer.sh', config, straight / 'best.pth', 1, '--out', tmp_path / 'x.json', *options)
    scores = np.array([r['scores'] for r in json.loads((tmp_path / 'x.json').read_text())])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-4)


def test_outputs_that_replace_files_are_refused(test_here: Test, config: Path, tmp_path: Path) -> None:
    scores = tmp_path / 'x.json'
    lists = tmp_path / 'val.json'
    lists.write_text(Path(load_config(config)['test_dataloader']['dataset']['list_file']).read_text())
    (tmp_path / 'link.json').symlink_to(lists)
    for arguments, names in (
        (('--out', scores, '--metrics-out', f'{tmp_path}/./x.json'), f'--out {scores} and --metrics-out'),
        (('--out', lists), f'--out {lists}'),
        (('--metrics-out', tmp_path / 'link.json'), '--metrics-out'),
    ):
        errors = test_here(*arguments, options=(f'test_dataloader.dataset.list_file={lists}',))
        assert errors.startswith('exit status 2\n')
        assert names in errors
    assert sorted(file.name for file in tmp_path.iterdir()) == ['link.json', 'val.json']


def test_second_test_with_same_out_is_refused(test_here: Test, tmp_path: Path) -> None:
    out = tmp_path / 'x.json'
    lock = FileLock(tmp_path / 'x.json.running.json', out)
    lock.acquire()
    for options in ((), ('--resume-test',)):
        errors = test_here('--out', out, *options)
        assert errors.startswith(f'exit status 2\nerror: {out} is in use by process {os.getpid()} ')
    lock.release()
    test_here('--out', out)
    assert [file.name for file in tmp_path.iterdir()] == ['x.json']


def test_scores_of_spans_equal_those_of_cut_files(test_here: Test, data: Path, tmp_path: Path) -> None:
    """The videos have only key frames, so cutting them does not change their frames."""
    videos = [line.split() for line in (data / 'val.txt').read_text().splitlines()[:3]]
    rows, lines = ['video,label,start,end'], []
    for number, (name, label) in enumerate(videos):
        with av.open(str(data / name)) as container:
            rate = container.streams.video[0].average_rate
        for first, last in ((8, 30), (30, 60)):
            cut = tmp_path / f'{number} {first}.mp4'
            remux(data / name, cut, lambda packet, n, first=first, last=last: first <= n < last)
            lines.append(f'{cut} {label}')
            rows.append(f'{name},{label},{float(first / rate)},{float(last / rate)}')
    (tmp_path / 'spans.csv').write_text('\n'.join(rows))
    (tmp_path / 'cut.txt').write_text('\n'.join(lines))
    found = []
    for name in ('spans.csv', 'cut.txt'):
        option = f'test_dataloader.dataset.list_file={tmp_path / name}'
        test_here('--out', tmp_path / f'{name}.json', options=(option,))
        found.append(read_results(tmp_path / f'{name}.json'))
    spans, cut_files = found
    assert len({*spans.paths}) == 6
    assert spans.paths[0].startswith(f'{data}/{videos[0][0]}#')
    np.testing.assert_array_equal(spans.scores, cut_files.scores)
    np.testing.assert_array_equal(spans.labels, cut_files.labels)
    assert len(np.unique(spans.scores, axis=0)) == 6
