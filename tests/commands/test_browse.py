import json
import os
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from dsanet import commands
from dsanet.commands.browse import LOOPS
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.config.schema import RuntimeCfg
from dsanet.data_tools import browsing
from dsanet.data_tools.visualization import SHEET_LEGEND, wrap_to_width
from dsanet.engine.preparation import build_loader
from tests.engine.conftest import make_config
from tests.make_videos import read_index, write_video


def main(argv: list[str]) -> int:
    return commands.main(['browse', *argv])


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    for name, number in (('train', 9), ('val', 3)):
        lines = [f'{write_video(root / f"{name}{i}.mp4", 20 + i)} {i % 3}\n' for i in range(number)]
        (root / f'{name}.txt').write_text(''.join(lines))
    (root / 'classes.txt').write_text('wave\nclap\njump\n')
    return root


def write_config(data: Path, file: Path, **dataset: object) -> str:
    content = make_config(data, runtime={'seed': 5})
    content['model']['cls_head']['num_classes'] = 3
    for name in ('train', 'val', 'test'):
        content[f'{name}_dataloader']['dataset'] |= {'class_file': str(data / 'classes.txt'), **dataset}
    content['test_dataloader']['dataset']['pipeline'][3] = {'type': 'ThreeCrop', 'size': 16}
    file.write_text(format_config(content))
    return str(file)


@pytest.fixture
def config(data: Path, tmp_path: Path) -> str:
    return write_config(data, tmp_path / 'config.py')


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The samples that the command loads."""
    items: list[dict] = []
    real = browsing.to_network_input
    monkeypatch.setattr(browsing, 'to_network_input', lambda item, lines: items.append(item) or real(item, lines))
    return items


def browse(config: str, *options: str) -> Path:
    out = Path(config).parent / 'out'
    main([config, '--out', str(out), '--workers', '0', *options])
    return out


def training_batches(config: str, epoch: int, *options: str) -> list[dict]:
    content = load_config(config, options)
    loader = build_loader(content['train_dataloader'], 'train_dataloader', RuntimeCfg(**content['runtime']))
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize('workers', ['0', '2'])
def test_samples_are_the_same_as_in_training(config: str, seen: list[dict], workers: str) -> None:
    for epoch in (1, 3):
        seen.clear()
        browse(config, '--num', '6', '--epoch', str(epoch), '--workers', workers)
        batches = training_batches(config, epoch - 1)  # batch size 4
        assert [item['index'] for item in seen] == torch.cat([b['index'] for b in batches])[:6].tolist()
        assert torch.equal(
            torch.stack([item['inputs'] for item in seen]), torch.cat([b['inputs'] for b in batches])[:6]
        )


def test_clips_are_the_same_as_in_training(config: str, seen: list[dict]) -> None:
    option = 'train_dataloader.clips_per_video=2'
    browse(config, '--num', '4', '--cfg-options', option)
    batch = training_batches(config, 0, option)[0]  # two videos
    assert [item['index'] for item in seen] == batch['index'].tolist()
    assert torch.equal(torch.stack([item['inputs'] for item in seen]), batch['inputs'])


def test_batch_size_may_exceed_the_dataset(config: str, seen: list[dict]) -> None:
    browse(config, '--num', '9')
    keys = [item['index'] for item in seen]
    seen.clear()
    browse(config, '--num', '9', '--cfg-options', 'train_dataloader.batch_size=64')
    assert [item['index'] for item in seen] == keys
    assert sorted(keys) == list(range(9))


@pytest.mark.parametrize('workers', ['0', '2'])
def test_bad_videos_are_reported_and_skipped(
    data: Path, tmp_path: Path, seen: list[dict], capsys: pytest.CaptureFixture, workers: str
) -> None:
    (tmp_path / 'bad.mp4').write_text('no video')
    (tmp_path / 'list.txt').write_text(f'{data}/val0.mp4 0\n{tmp_path}/bad.mp4 1\n{data}/val2.mp4 2\n')
    config = write_config(data, tmp_path / 'config.py', list_file=str(tmp_path / 'list.txt'))
    argv = [config, '--out', str(tmp_path / 'out'), '--workers', workers, '--split', 'val']
    assert main(argv) == 1
    assert [item['index'] for item in seen] == [0, 2]
    errors = capsys.readouterr().err
    assert 'bad.mp4' in errors
    assert '1 of 3 ' in errors
    assert 'Traceback' not in errors
    sheet = tmp_path / 'out' / 'val_1.png'
    assert list(sheet.parent.glob('*.png')) == [sheet]
    sheet.unlink()
    assert main([*argv, '--index', '1']) == 1
    assert not sheet.exists()
    assert main([*argv, '--index', '0']) == 0


def test_a_killed_worker_is_one_error_line(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(browsing.RecordTap, '__call__', lambda *_: os._exit(3))
    with pytest.raises(SystemExit, match='1'):
        browse(config, '--num', '2', '--workers', '1')
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r'error: .* process \d+ ', line)


def test_frame_numbers_match_the_frames(config: str, seen: list[dict], capsys: pytest.CaptureFixture) -> None:
    out = browse(config, '--num', '3', '--split', 'val')
    assert [item['index'] for item in seen] == [0, 1, 2]
    printed = capsys.readouterr().out
    for item in seen:
        frames = item['inputs'][0].permute(0, 2, 3, 4, 1).reshape(-1, 16, 16, 3)  # (U*T, H, W, C)
        indices = item['frame_indices'].ravel()
        whole = item['whole'].reshape(-1, 112, 112, 3)
        assert [read_index(frame[24:88]) for frame in whole] == indices[::2].tolist()
        assert len(frames) == len(indices) == 4
    for token in ('clap (1)\n', 'val.txt:2 ', seen[1]['path'], ' 21 '):
        assert token in printed
    assert [file.name for file in out.glob('*.png')] == ['val_1.png']


def test_sheets_have_a_row_per_test_view(config: str, seen: list[dict]) -> None:
    out = browse(config, '--num', '1', '--split', 'test')
    assert seen[0]['inputs'].shape == (6, 2, 3, 2, 16, 16)
    assert seen[0]['frame_indices'].shape == (2, 2, 2)
    picture = cv2.imread(str(out / 'test_1.png'))
    # One row per group and snippet: the whole frame, and three crops of two frames.
    assert picture.shape[1] == 24 + 92 + 7 * 116 + 3 * 12
    legend = len(wrap_to_width(SHEET_LEGEND, picture.shape[1] - 24, 12)) * 16
    assert picture.shape[0] == 24 + 32 + legend + (3 * 18 + 2 * 10 + 10 + 4 * (112 + 14 + 4) + 14)


def test_index_and_classes_select_samples(config: str, seen: list[dict]) -> None:
    browse(config, '--index', '7', '2')
    assert [item['index'] for item in seen] == [7, 2]
    batches = training_batches(config, 0)
    indices, inputs = torch.cat([b['index'] for b in batches]).tolist(), torch.cat([b['inputs'] for b in batches])
    trained = [
        item for item in seen if item['index'] in indices
    ]  # training drops the last, incomplete batch: one of nine videos
    assert trained
    assert all(torch.equal(item['inputs'], inputs[indices.index(item['index'])]) for item in trained)
    seen.clear()
    browse(config, '--classes', 'jump', '0', '--num', '9')
    assert {item['label'] for item in seen} == {0, 2}


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['--index', '9'], r'--index.* 9.* 8'),
        (['--classes', 'wav'], r"--classes.* 'wav'.* wave"),
        (['--classes', '7'], r'7'),
        (['--index', '1', '--num', '2'], r'--num .* --index'),
        (['--index', '1', '--classes', 'wave'], r'--classes .* --index'),
        (['--split', 'test', '--epoch', '1'], r'--epoch .* --split test'),
        (['--epoch', '0'], r'--epoch'),
    ],
)
def test_invalid_options_are_reported(
    config: str, options: list[str], text: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        browse(config, *options)
    assert ended.value.code == 2
    assert re.search(f'error: .*{text}', capsys.readouterr().err)


@pytest.mark.parametrize('options', [[], ['--clips']])
def test_write_failures_are_one_error_line(config: str, options: list[str], capsys: pytest.CaptureFixture) -> None:
    out = Path(config).parent / 'out'
    for number in range(9):
        (out / f'train_epoch1_{number:05d}.mp4').mkdir(parents=True)
    (out / 'train_epoch1_1.png').mkdir()
    assert main([config, '--out', str(out), '--workers', '0', '--num', '1', *options]) == 2
    assert re.match('error: .*train_epoch1_', capsys.readouterr().err.splitlines()[-1])
    for below in (config, f'{config}/below'):
        with pytest.raises(SystemExit, match='2'):
            main([config, '--out', below])
        assert f'--out {below} ' in capsys.readouterr().err


def test_clips_show_the_snippets_side_by_side(config: str, seen: list[dict]) -> None:
    out = browse(config, '--num', '2', '--clips', '--cell', '64')
    assert len(list(out.glob('*.mp4'))) == 2
    file = out / f'train_epoch1_{seen[0]["index"]:05d}.mp4'
    with av.open(str(file)) as container:
        assert container.streams.video[0].average_rate == 4
        pictures = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert len(pictures) == 2 * LOOPS
    top = 12 + 3 * 18 + 10 + 10 + 14 + 2
    for number, picture in enumerate(pictures[:2]):
        for snippet in range(2):
            left = 12 + snippet * 68
            shown = picture[top : top + 64, left : left + 64].astype(int)
            wanted = seen[0]['inputs'][0, snippet, :, number].permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
            assert np.abs(shown - wanted).mean() < 12  # compressed
    assert np.abs(pictures[0].astype(int) - pictures[2]).mean() < 2  # the loop starts again


def test_num_counts_per_class(config: str, seen: list[dict]) -> None:
    browse(config, '--classes', 'jump', 'wave', '--num', '2')
    assert sorted(item['label'] for item in seen) == [0, 0, 2, 2]
    order = torch.cat([b['index'] for b in training_batches(config, 0)]).tolist()
    places = [order.index(item['index']) for item in seen if item['index'] in order]
    assert places == sorted(places), 'the first ones of the epoch, in its order'
    seen.clear()
    browse(config, '--classes', 'wave', '--num', '9')  # there are three
    assert [item['label'] for item in seen] == [0, 0, 0]


def test_class_without_samples_is_an_error(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'train.txt').write_text(''.join(f'{data}/train{i}.mp4 {i % 2}\n' for i in range(4)))
    config = write_config(data, tmp_path / 'config.py', list_file=str(tmp_path / 'train.txt'))
    with pytest.raises(SystemExit, match='^2$'):
        browse(config, '--classes', 'wave', 'jump')
    assert 'jump' in capsys.readouterr().err


def test_second_call_replaces_only_its_kind(config: str) -> None:
    out = browse(config, '--num', '2', '--clips')
    (out / 'notes.png').touch()
    browse(config, '--num', '1', '--split', 'val')
    assert len(list(out.glob('train_epoch1_*.mp4'))) == 2
    main([config, '--out', str(out), '--workers', '0', '--index', '4', '--clips'])
    names = ['browse.json', 'notes.png', 'train_epoch1_00004.mp4', 'val_1.png']
    assert sorted(file.name for file in out.iterdir()) == names
    assert sorted(json.loads((out / 'browse.json').read_text())) == names[2:]


@pytest.mark.parametrize('name', ['val_4.png', 'browse.json'])
def test_files_of_the_user_are_kept(config: str, name: str, capsys: pytest.CaptureFixture) -> None:
    out = Path(config).parent / 'out'
    out.mkdir()
    (out / name).write_text('mine')
    with pytest.raises(SystemExit, match='^2$'):
        browse(config, '--num', '1', '--split', 'val')
    assert name in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == [name]
    assert (out / name).read_text() == 'mine'


def test_swapped_labels_are_shown(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = write_config(data, tmp_path / 'config.py')
    step = 'train_dataloader.dataset.pipeline.4'
    options = ['--cfg-options', f'{step}.prob=1', f'{step}.swap_labels=((0, 1),)']
    browse(config, '--index', '0', '2', *options)
    printed = capsys.readouterr().out
    assert re.search(r'\nclap \(1\).* wave \(0\)\n', printed)
    assert '\njump (2)\n' in printed


def test_all_labels_of_a_video_are_shown(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'train.txt').write_text(''.join(f'{data}/train{i}.mp4 0,2\n' for i in range(4)))
    config = write_config(data, tmp_path / 'config.py', multi_hot=3, list_file=str(tmp_path / 'train.txt'))
    browse(config, '--num', '1', '--classes', 'jump')
    assert 'wave (0), jump (2)\n' in capsys.readouterr().out


def test_batch_augment_is_reported_as_not_shown(config: str, capsys: pytest.CaptureFixture) -> None:
    content = load_config(config)
    content['model']['batch_augment'] = {'type': 'MixupCutmix'}
    Path(config).write_text(format_config(content))
    browse(config, '--num', '1')
    assert 'MixupCutmix' in capsys.readouterr().out


def test_clips_do_not_replace_videos(data: Path, config: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['browse', config, '--clips', '--out', f'{data}/../{data.name}'])
    assert f'--out {data}' in capsys.readouterr().err
