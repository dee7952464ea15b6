import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.commands import check
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.data_checks import existence, probe
from dsanet.reports import class_sheets
from tests.commands.conftest import ROOT
from tests.engine.conftest import make_config
from tests.make_videos import write_frames, write_video


def main(words: list[str]) -> int:
    return commands.main(['check', *words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight classes with two training videos and one for validation each."""
    for name, number in (('train', 16), ('val', 8)):
        lines = []
        for i in range(number):
            write_video(tmp_path / f'{name}{i}.mp4', 12 + i, 72, 128, crf=str(10 + i))
            lines.append(f'{name}{i}.mp4 {i % 8}\n')
        (tmp_path / f'{name}.txt').write_text(''.join(lines))
    return tmp_path


@pytest.fixture
def config(data: Path) -> str:
    (data / 'page.py').write_text(format_config(make_config(data)))
    return str(data / 'page.py')


def run(config: str, *options: str) -> tuple[int, dict, Path]:
    """Check; returns the exit status, the report, and where it lies."""
    out = Path(config).parent / 'out'
    status = main([config, '--out', str(out), '--workers', '2', '--samples', '0', *options])
    return status, json.loads((out / 'report.json').read_text()), out


def checks(report: dict, level: str) -> list[str]:
    return [finding['check'] for finding in report['findings'] if finding['level'] == level]


def test_good_data_are_fit(config: str, capsys: pytest.CaptureFixture) -> None:
    status, report, out = run(config, '--samples', '2')
    assert (status, report['fit'], report['form']) == (0, True, 'full')
    assert report['splits']['train']['frames'] == [12, 27, 19]
    assert report['splits']['val']['videos'] == 8
    text = (out / 'report.txt').read_text()
    assert text.startswith('PASSED')
    assert text in capsys.readouterr().out
    for name in ('report.png', 'classes_1.png'):
        assert cv2.imread(str(out / name)).std() > 5
    assert len((out / 'files.jsonl').read_text().splitlines()) == 24


def test_quick_form_inspects_nothing(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, '_inspect', None)
    status, report, out = run(config, '--quick')
    assert (status, report['form']) == (0, 'quick')
    assert not (out / 'files.jsonl').exists()
    assert (out / 'report.png').is_file()
    assert not (out / 'classes_1.png').exists()


def test_whatever_is_wrong_ends_with_status_1(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
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


def test_a_pipeline_that_fails_makes_the_data_unfit(config: str) -> None:
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


def test_strict_takes_warnings_seriously(config: str, data: Path) -> None:
    with (data / 'train.txt').open('a') as lines:
        lines.write('val0.mp4 0\n')
    assert run(config, '--quick')[0] == 0
    assert run(config, '--quick', '--strict')[0] == 1


def test_copies_are_found_on_request(config: str, data: Path) -> None:
    (data / 'val3.mp4').write_bytes((data / 'train3.mp4').read_bytes())
    assert checks(run(config)[1], 'warning') == []
    assert checks(run(config, '--hash')[1], 'warning') == ['same_content']


def test_links_are_found_without_asking_for_each_file_again(
    config: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existence, 'find_file', None)
    (data / 'val3.mp4').unlink()
    (data / 'val3.mp4').hardlink_to(data / 'train3.mp4')
    for _ in ('inspected', 'known'):
        _, report, _ = run(config)
        assert checks(report, 'warning') == ['links']
        assert 'val3.mp4 is ' in next(f for f in report['findings'] if f['check'] == 'links')['examples'][0]


def test_second_run_inspects_what_is_new(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    run(config)
    capsys.readouterr()
    write_video(data / 'train0.mp4', 33)
    _, report, out = run(config)
    assert f'23 videos are known from {out / "files.jsonl"}' in capsys.readouterr().out
    assert report['splits']['train']['frames'][1] == 33


def test_samples_of_each_class_are_shown(config: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_sheets, 'CLASSES_A_PAGE', 3)
    *_, out = run(config, '--samples', '2')
    sizes = [cv2.imread(str(file)).shape for file in sorted(out.glob('classes_*.png'))]
    assert len(sizes) == 3
    assert sizes[0][1] == 2 * 12 + 2 * (144 + 6)
    for file in out.glob('classes_*.png'):
        file.unlink()
    run(config)
    assert not list(out.glob('classes_*.png'))


def test_sheets_of_an_earlier_check_are_removed(config: str, data: Path) -> None:
    *_, out = run(config, '--samples', '1')
    for name in ('classes_7.png', 'classes_0_1.png', 'classes_mine.png'):
        (out / name).write_text('')
    run(config, '--samples', '1')
    assert sorted(file.name for file in out.glob('classes*')) == ['classes_1.png', 'classes_mine.png']
    run(config, '--quick')
    assert [file.name for file in out.glob('classes*')] == ['classes_mine.png']


def test_every_part_of_a_mixture_has_sheets(config: str, data: Path) -> None:
    page = load_config(config)
    dataset = page['train_dataloader']['dataset']
    (data / 'half.txt').write_text('train1.mp4 1\n')
    parts = [dataset, {**dataset, 'list_file': str(data / 'half.txt')}]
    page['train_dataloader']['dataset'] = {'type': 'MixedDataset', 'datasets': parts}
    (data / 'mixed.py').write_text(format_config(page))
    *_, out = run(str(data / 'mixed.py'), '--samples', '1')
    assert sorted(file.name for file in out.glob('classes_*.png')) == ['classes_0_1.png', 'classes_1_1.png']


def test_a_report_that_cannot_be_written_is_one_line(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / 'out/report.json').mkdir(parents=True)
    assert main([config, '--quick', '--out', str(data / 'out')]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith('error: the report cannot be written: [Errno 21]')


def test_the_decoder_that_auto_chose_is_named(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dsanet.datasets.transforms.decoding.first_installed', lambda: 'pyav')
    auto = ['--cfg-options', 'train_dataloader.dataset.pipeline.0.decoder=auto']
    for options in (auto, ['--quick', *auto]):
        _, report, out = run(config, *options)
        assert report['splits']['train']['decoder'] == 'pyav'
        assert ', decoder pyav\n' in (out / 'report.txt').read_text()


def test_every_frame_and_the_time_limit_are_options(config: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = probe.Inspection
    monkeypatch.setattr(probe, 'Inspection', lambda *a: asked.append(a) or real(*a))
    run(config, '--every-frame', '--time-limit', '7')
    jobs, _, workers, limit, _ = asked[0]
    assert (all(job.every_frame for job in jobs), workers, limit) == (True, 2, 7)


def test_folders_of_frames_are_checked(tmp_path: Path) -> None:
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
    page = make_config(tmp_path)
    page['model']['cls_head']['num_classes'] = 2
    for name in ('train', 'test'):
        page[f'{name}_dataloader']['dataset'] = dataset
    del page['val_dataloader']
    (tmp_path / 'page.py').write_text(format_config(page))
    status, report, out = run(str(tmp_path / 'page.py'), '--samples', '2')
    assert status == 1
    found = [(f['split'], f['text']) for f in report['findings'] if f['level'] == 'error']
    assert [(split, text.split()[:3], 'max_bad_share=0.2' in text) for split, text in found] == [
        ('train', ['1', 'of', '4'], True),
        ('test', ['1', 'of', '4'], False),
    ]
    assert 'img_00006.jpg' in report['findings'][0]['examples'][0]
    assert np.ptp(cv2.imread(str(out / 'classes_1.png'))) == 255


def test_mistakes_in_the_call_are_one_line(config: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments in (['nowhere.py'], [config, '--samples', '-1'], [config, '--cfg-options', 'model.x=1']):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    assert 'there is no config' in capsys.readouterr().err


def test_a_file_as_out_is_one_line(config: str, capsys: pytest.CaptureFixture) -> None:
    for out in (config, f'{config}/below'):
        with pytest.raises(SystemExit) as ended:
            main([config, '--quick', '--out', out])
        assert ended.value.code == 2
        assert f'--out {out} must be a folder to write to, or a new name for one: ' in capsys.readouterr().err


def stumble(_job: object) -> None:
    raise ZeroDivisionError('a mistake of ours')


def lack_a_package(_job: object) -> None:
    raise ModuleNotFoundError('No module named decord')


@pytest.mark.parametrize(
    ('work', 'said'),
    [
        (stumble, '/train0.mp4: ZeroDivisionError: a mistake of ours'),
        (lack_a_package, 'the decoder of the config cannot be imported: ModuleNotFoundError: No module named decord'),
    ],
)
def test_what_is_no_fault_of_a_video_is_one_line(
    config: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, work: object, said: str
) -> None:
    monkeypatch.setattr(probe, '_inspect', work)
    assert main([config, '--out', str(data / 'out'), '--workers', '1']) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith('error: ')
    assert error.endswith(f'{said}\n')
    assert not (data / 'out' / 'report.json').exists(), 'nothing is known about the data'


def test_results_that_cannot_be_kept_are_one_line(
    config: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (data / 'out' / 'files.jsonl').mkdir(parents=True)
    assert main([config, '--out', str(data / 'out'), '--workers', '1']) == 2
    assert 'error: the videos cannot be inspected: ' in capsys.readouterr().err


@pytest.mark.sweep
def test_command_ends_with_the_verdict(config: str, data: Path) -> None:
    (data / 'train.txt').write_text('nowhere.mp4 0\nnor.mp4 1\n')
    command = [sys.executable, '-m', 'dsanet', 'check', config, '--quick', '--out', str(data / 'out')]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert 'data_root' in done.stdout
    assert done.stderr == ''
