import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.data_checks import existence, probe
from dsanet.engine.work_dir import hold_lock
from dsanet.reports import class_sheets
from tests.engine.conftest import make_config
from tests.make_videos import write_frames, write_video


def main(argv: list[str]) -> int:
    return commands.main(['check', *argv])


@pytest.fixture(scope='module')
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes with two training videos and one validation video each."""
    root = tmp_path_factory.mktemp('originals')
    for name, number in (('train', 16), ('val', 8)):
        lines = []
        for i in range(number):
            write_video(root / f'{name}{i}.mp4', 12 + i, 72, 128, crf=str(10 + i))
            lines.append(f'{name}{i}.mp4 {i % 8}\n')
        (root / f'{name}.txt').write_text(''.join(lines))
    return root


@pytest.fixture
def data(originals: Path, tmp_path: Path) -> Path:
    """A copy of the videos, which a test may change."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def config(data: Path) -> str:
    (data / 'config.py').write_text(format_config(make_config(data)))
    return str(data / 'config.py')


def run(config: str, *options: str) -> tuple[int, dict, Path]:
    """Run the check and return the exit status, the report and its folder."""
    out = Path(config).parent / 'out'
    status = main([config, '--out', str(out), '--workers', '2', '--samples', '0', *options])
    return status, json.loads((out / 'report.json').read_text()), out


def checks(report: dict, level: str) -> list[str]:
    return [finding['check'] for finding in report['findings'] if finding['level'] == level]


@pytest.mark.parametrize('name', ['report.txt', 'report.json', 'files.jsonl', 'classes_1.png', 'classes_2_1.png'])
def test_files_of_the_user_are_kept(config: str, name: str, capsys: pytest.CaptureFixture) -> None:
    out = Path(config).parent / 'out'
    out.mkdir()
    (out / name).write_text('[1]')
    (out / 'classes_old.png').touch()  # has another name, and is not in the way
    with pytest.raises(SystemExit, match='^2$'):
        main([config, '--quick', '--out', str(out)])
    assert name in capsys.readouterr().err
    assert (out / name).read_text() == '[1]'
    (out / name).unlink()
    for _ in range(2):  # the second check replaces the files of the first
        assert main([config, '--quick', '--out', str(out)]) == 0
    assert (out / 'classes_old.png').exists()


def test_valid_data_pass(config: str, capsys: pytest.CaptureFixture) -> None:
    status, report, out = run(config, '--samples', '2')
    assert (status, report['fit'], report['form']) == (0, True, 'full')
    assert report['splits']['train']['frames'] == [12, 27, 19]
    assert report['splits']['val']['videos'] == 8
    text = (out / 'report.txt').read_text()
    assert text in capsys.readouterr().out
    assert cv2.imread(str(out / 'classes_1.png')).std() > 5
    assert len((out / 'files.jsonl').read_text().splitlines()) == 24


def test_quick_check_does_not_inspect_files(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, 'inspect_videos', None)
    status, report, out = run(config, '--quick')
    assert (status, report['form']) == (0, 'quick')
    assert not (out / 'files.jsonl').exists()
    assert not (out / 'classes_1.png').exists()


def test_problems_give_exit_status_1(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / 'train1.mp4').write_text('no video')
    (data / 'train2.mp4').unlink()
    with (data / 'train.txt').open('a') as lines:
        lines.write('val0.mp4 0\ntrain3.mp4 9\nno label\n')
    status, report, _ = run(config)
    assert status == 1
    assert checks(report, 'error') == ['list', 'labels']
    assert checks(report, 'warning') == ['duplicates', 'overlap', 'files_missing', 'files_unreadable']
    assert f'{data}/train.txt:19' in capsys.readouterr().out
    assert run(config, '--quick')[0] == 1


def test_failing_pipeline_is_an_error(config: str) -> None:
    for name in ('train', 'val', 'test'):
        options = ['--cfg-options', f'{name}_dataloader.dataset.pipeline.3.type=CenterCrop']
        options.append(f'{name}_dataloader.dataset.pipeline.3.size=80')
        for form in ([], ['--quick']):
            status, report, _ = run(config, *form, *options)
            assert status == 1
            (found,) = (f for f in report['findings'] if f['level'] == 'error')
            assert (found['check'], found['split']) == ('pipeline', name)
            assert '80x80' in found['text']
            assert '72x128' in found['text']


def test_strict_turns_warnings_into_errors(config: str, data: Path) -> None:
    with (data / 'train.txt').open('a') as lines:
        lines.write('val0.mp4 0\n')
    assert run(config, '--quick')[0] == 0
    assert run(config, '--quick', '--strict')[0] == 1


def test_hash_finds_identical_files(config: str, data: Path) -> None:
    (data / 'val3.mp4').write_bytes((data / 'train3.mp4').read_bytes())
    assert checks(run(config)[1], 'warning') == []
    assert checks(run(config, '--hash')[1], 'warning') == ['same_content']


def test_hard_links_are_found(config: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existence, 'find_file', None)
    (data / 'val3.mp4').unlink()
    (data / 'val3.mp4').hardlink_to(data / 'train3.mp4')
    for _ in ('inspected', 'known'):
        _, report, _ = run(config)
        assert checks(report, 'warning') == ['links']
        assert 'val3.mp4' in next(f for f in report['findings'] if f['check'] == 'links')['examples'][0]


def test_second_run_inspects_only_changed_files(config: str, data: Path) -> None:
    run(config)
    write_video(data / 'train0.mp4', 33)
    _, report, out = run(config)
    assert report['splits']['train']['frames'][1] == 33
    assert len((out / 'files.jsonl').read_text().split('\n{')) == 24 + 1


def test_sheets_show_samples_of_each_class(config: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_sheets, 'CLASSES_PER_SHEET', 3)
    *_, out = run(config, '--samples', '2')
    sizes = [cv2.imread(str(file)).shape for file in sorted(out.glob('classes_*.png'))]
    assert len(sizes) == 3
    assert sizes[0][1] == 2 * 12 + 2 * (3 * 98 - 2 + 14) - 14
    for file in out.glob('classes_*.png'):
        file.unlink()
    run(config)
    assert not list(out.glob('classes_*.png'))


def test_old_sheets_are_removed(config: str, data: Path) -> None:
    *_, out = run(config, '--samples', '1')
    for name in ('classes_7.png', 'classes_0_1.png', 'classes_mine.png'):
        (out / name).write_text('')
    run(config, '--samples', '1')
    assert sorted(file.name for file in out.glob('classes*')) == ['classes_1.png', 'classes_mine.png']
    run(config, '--quick')
    assert [file.name for file in out.glob('classes*')] == ['classes_mine.png']


def test_each_part_of_a_mixture_has_sheets(config: str, data: Path) -> None:
    content = load_config(config)
    dataset = content['train_dataloader']['dataset']
    (data / 'half.txt').write_text('train1.mp4 1\n')
    parts = [dataset, {**dataset, 'list_file': str(data / 'half.txt')}]
    content['train_dataloader']['dataset'] = {'type': 'MixedDataset', 'datasets': parts}
    (data / 'mixed.py').write_text(format_config(content))
    *_, out = run(str(data / 'mixed.py'), '--samples', '1')
    assert sorted(file.name for file in out.glob('classes_*.png')) == ['classes_0_1.png', 'classes_1_1.png']


def test_failure_to_write_the_report_is_reported(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / 'out/report.json').mkdir(parents=True)
    assert main([config, '--quick', '--out', str(data / 'out')]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith('error: ')


def test_decoder_auto_shows_the_decoder_used(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dsanet.datasets.transforms.decoding.first_installed', lambda: 'pyav')
    auto = ['--cfg-options', 'train_dataloader.dataset.pipeline.0.decoder=auto']
    for options in (auto, ['--quick', *auto]):
        _, report, out = run(config, *options)
        assert report['splits']['train']['decoder'] == 'pyav'
        assert 'pyav\n' in (out / 'report.txt').read_text()


def test_every_frame_and_time_limit_take_effect(config: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = probe.inspect_videos
    monkeypatch.setattr(probe, 'inspect_videos', lambda *a: calls.append(a) or real(*a))
    run(config, '--every-frame', '--time-limit', '7')
    tasks, _, workers, limit = calls[0]
    assert (all(task.every_frame for task in tasks), workers, limit) == (True, 2, 7)


def test_frame_folders_are_checked(tmp_path: Path) -> None:
    for i in range(4):
        write_frames(tmp_path / 'frames' / f'v{i}', 6, start_index=0)
    (tmp_path / 'list.txt').write_text(''.join(f'v{i} {6 + (i == 3)} {i % 2}\n' for i in range(4)))
    pipeline = [
        {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2},
        {'type': 'DecodeRawFrames'},
        {'type': 'CenterCrop', 'size': 16},
        {'type': 'PackInputs'},
    ]
    dataset = {
        'type': 'RawFramesDataset',
        'list_file': str(tmp_path / 'list.txt'),
        'data_root': str(tmp_path / 'frames'),
        'start_index': 0,
        'pipeline': pipeline,
    }
    config = make_config(tmp_path)
    config['model']['cls_head']['num_classes'] = 2
    for name in ('train', 'test'):
        config[f'{name}_dataloader']['dataset'] = dataset
    del config['val_dataloader']
    (tmp_path / 'config.py').write_text(format_config(config))
    status, report, out = run(str(tmp_path / 'config.py'), '--samples', '2')
    assert status == 1
    train, test = (finding for finding in report['findings'] if finding['level'] == 'error')
    assert (train['split'], test['split']) == ('train', 'test')
    assert re.search(r'1 of 4 .*max_bad_share=0\.2', train['text'])
    assert '1 of 4 ' in test['text']
    assert 'img_00006.jpg' in report['findings'][0]['examples'][0]
    assert np.ptp(cv2.imread(str(out / 'classes_1.png'))) == 255


def test_invalid_arguments_are_reported(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, text in (
        (['nowhere.py'], 'nowhere.py'),
        ([config, '--samples', '-1'], '--samples'),
        ([config, '--cfg-options', 'model.x=1'], 'model.x'),
        ([config, '--quick', '--out', config], f'--out {config} '),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert text in capsys.readouterr().err


def divide_by_zero(_job: object) -> None:
    raise ZeroDivisionError('division by zero')


def import_missing_package(_job: object) -> None:
    raise ModuleNotFoundError('No module named decord')


@pytest.mark.parametrize(
    ('work', 'text'),
    [
        (divide_by_zero, '/train0.mp4: ZeroDivisionError: division by zero'),
        (import_missing_package, 'ModuleNotFoundError: No module named decord'),
    ],
)
def test_internal_errors_are_not_blamed_on_videos(
    config: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, work: object, text: str
) -> None:
    monkeypatch.setattr(probe, '_inspect', work)
    assert main([config, '--out', str(data / 'out'), '--workers', '1']) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith('error: ')
    assert error.endswith(f'{text}\n')
    assert not (data / 'out' / 'report.json').exists(), 'nothing was checked'


def test_failure_to_write_results_is_reported(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / 'out' / 'files.jsonl').mkdir(parents=True)
    assert main([config, '--out', str(data / 'out'), '--workers', '1']) == 2
    assert re.match('error: .*files.jsonl', capsys.readouterr().err.splitlines()[-1])


def test_report_does_not_replace_the_list(data: Path, config: str, capsys: pytest.CaptureFixture) -> None:
    (data / 'train.txt').rename(data / 'report.txt')
    option = f'train_dataloader.dataset.list_file={data / "report.txt"}'
    before = (data / 'report.txt').read_bytes()
    with pytest.raises(SystemExit, match='^2$'):
        main([config, '--out', str(data), '--cfg-options', option])
    assert f'{data}/report.txt' in capsys.readouterr().err
    assert (data / 'report.txt').read_bytes() == before


def test_second_check_with_the_same_out_fails(config: str, capsys: pytest.CaptureFixture) -> None:
    out = Path(config).parent / 'out'
    out.mkdir()
    with hold_lock(out, 'wait'), pytest.raises(SystemExit, match='^2$'):
        main([config, '--out', str(out), '--quick'])
    assert str(os.getpid()) in capsys.readouterr().err
    assert list(out.iterdir()) == []
