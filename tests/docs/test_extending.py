"""The code of docs/extending works in a user's folder: configs load and learn, tests pass, one run uses all parts."""

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.config.loading import load_config
from dsanet.config.registry import DATASETS, METRICS, MODELS, TRACKERS, TRANSFORMS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.classes import load_config_with_classes
from dsanet.datasets.video.readers import READERS
from dsanet.engine.preparation import build_loader
from tests.docs.pages import PAGES
from tests.make_videos import draw_frame, write_video

PAGE = '\n'.join(text for name, text in PAGES.items() if name.startswith('docs/extending/'))
FILES = dict(re.findall(r'^```python\n# (my_lab/\S+\.py)\n(.*?)^```$', PAGE, flags=re.M | re.S))
CONFIGS = [name for name in FILES if name.startswith('my_lab/use_')]
REGISTRIES = [registry.module_dict for registry in (DATASETS, METRICS, MODELS, TRACKERS, TRANSFORMS)] + [READERS]

TINY = ['train_dataloader.batch_size=2', 'crop_size=32', 'short_side=36', 'frame_interval=1']
TINY += [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]

# All parts in one run.
EVERYTHING = """
_base_ = ['use_csv_videos.py']
imports = ['my_lab.csv_videos', 'my_lab.tiny_net', 'my_lab.poly_loss', 'my_lab.mean_f1', 'my_lab.npy_reader']
imports += ['my_lab.csv_tracker']
decoder = 'npy'
model = dict(
    backbone=dict(type='TinyNet', width=4),
    cls_head=dict(in_channels=8, loss=dict(type='PolyLoss')),
    module_cfg=[dict(type='DSA', num_snippets='${num_snippets}', channel_ratio=1, after='layer1')],
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='OpenVideo', decoder='${decoder}'),
            dict(type='SampleSnippets', num_snippets='${num_snippets}', frames_per_snippet='${frames_per_snippet}'),
            dict(type='DecodeVideo'),
            dict(type='DropColor', prob=0.5),
            dict(type='RandomResizedCrop', size='${crop_size}'),
            dict(type='PackInputs'),
        ]
    )
)
metrics = [dict(type='Accuracy', topk=(1,)), dict(type='MeanF1')]
runtime = dict(save_best='mean_f1', trackers=[dict(type='CsvTracker')])
"""


@pytest.fixture(scope='module')
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a user's folder: the files of the pages, two videos as files and arrays, lists in both forms."""
    root = tmp_path_factory.mktemp('user')
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / 'my_lab' / 'everything.py').write_text(EVERYTHING)
    data = root / 'data'
    (data / 'videos').mkdir(parents=True)
    for name in ('a', 'b'):
        write_video(data / 'videos' / f'{name}.mp4', 20)
        np.save(data / 'videos' / f'{name}.npy', np.stack([draw_frame(index) for index in range(20)]))
    for split in ('train', 'val'):
        (data / f'{split}.txt').write_text('a.mp4 0\nb.mp4 1\n')
        (data / f'{split}.csv').write_text('video,action\na.mp4,clap\nb.mp4,wave\n')
    (data / 'arrays.txt').write_text('a.npy 0\nb.npy 1\n')
    (data / 'classes.txt').write_text('clap\nwave\n')
    return root


@pytest.fixture
def here(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to the user's folder; undo its imports and registrations afterward."""
    monkeypatch.chdir(lab)
    before = [dict(entries) for entries in REGISTRIES]
    yield lab
    for entries, kept in zip(REGISTRIES, before, strict=True):
        entries.clear()
        entries.update(kept)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'my_lab']:
        del sys.modules[name]


def test_every_part_has_a_config() -> None:
    assert len(CONFIGS) == 7
    for name in CONFIGS:
        module = name.removesuffix('.py').replace('use_', '').replace('/', '.')
        assert f"imports = ['{module}']" in FILES[name]
        assert f'{module.replace(".", "/")}.py' in FILES


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_trains_on_its_data(name: str, here: Path) -> None:
    config = load_config_with_classes(name, [f'data_root={here / "data"}', *TINY])
    loader = build_loader(config['train_dataloader'], 'train_dataloader', RuntimeCfg())
    loader.dataset.check_labels(2)
    batch = next(iter(loader))
    assert batch['inputs'].shape == (2, 1, 4, 3, 4, 32, 32)
    assert sorted(batch['label'].tolist()) == [0, 1]
    torch.manual_seed(0)
    model = build(config['model'], MODELS, 'model')
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        losses.append(model(batch['inputs'], batch['label'])['loss'])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses).isfinite().all()
    assert losses[0] != losses[1]


@pytest.mark.usefixtures('here')
def test_unknown_action_names_file_and_line() -> None:
    load_config('my_lab/use_csv_videos.py', ['data_root=data'])
    Path('wrong.csv').write_text('video,action\na.mp4,clap\nb.mp4,wafe\n')
    with pytest.raises(ValueError, match=r"wrong\.csv:3: 'wafe'"):
        DATASETS.module_dict['CsvVideos']([], 'wrong.csv', 'data/videos', 'data/classes.txt')


@pytest.mark.sweep
def test_tests_of_the_pages_pass(lab: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'my_lab'],
        cwd=lab,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert '5 passed' in done.stdout


@pytest.mark.sweep
def test_one_run_uses_all_parts_and_resumes(lab: Path) -> None:
    for split in ('train', 'val'):
        text = (lab / 'data' / f'{split}.csv').read_text()
        (lab / 'data' / f'{split}.csv').write_text(text.replace('.mp4', '.npy'))
    train = [sys.executable, '-m', 'dsanet', 'train', 'my_lab/everything.py', '--import', 'my_lab.drop_color']
    train += ['--work-dir', 'run', '--resume', '--cfg-options', 'data_root=data', *TINY, 'runtime.log_interval=1']
    for epochs in (1, 2):
        subprocess.run([*train, f'train_cfg.max_epochs={epochs}'], cwd=lab, check=True, capture_output=True)
    with (lab / 'run' / 'curves.csv').open(newline='') as file:
        rows = list(csv.reader(file))
    assert [int(iteration) for iteration, name, _ in rows if name == 'val/mean_f1'] == [1, 2]
    assert "'my_lab.drop_color'" in (lab / 'run' / 'config.py').read_text()
    out = lab / 'scores.json'
    test = [sys.executable, '-m', 'dsanet', 'test', 'run/best.pth', '--out', str(out)]
    done = subprocess.run(test, cwd=lab, capture_output=True, text=True, check=True)
    assert 'mean_f1' in done.stdout + done.stderr
    assert out.is_file()
