"""Everything on docs/extending.md works: files are imported, configs built and used, tests pass."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dsanet.config.loading import Config, load_config
from dsanet.config.registry import DATASETS, MODELS, TRANSFORMS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.engine.preparation import build_loader
from tests.make_videos import write_video

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'extending.md').read_text()
# What stands in each file of the page; imports have no file.
FILES = dict(re.findall(r'^```python\n# (\S+\.py)\n(.*?)^```$', PAGE, flags=re.M | re.S))
CONFIGS = [Path(name).stem for name in FILES if name.startswith('configs/')]
SOURCES = [name for name in FILES if name.startswith('codes/')]
TESTS = [name for name in FILES if name.startswith('tests/')]
IMPORTS = re.findall(
    r'^Import it in `(\S+)`[^`]*(?:`__all__`)?:\n\n```python\nfrom (\S+) import (\w+)\n```$', PAGE, flags=re.M
)


@pytest.fixture(scope='module', autouse=True)
def parts() -> Iterator[None]:
    """Run the page's files as modules of their names; afterwards nothing of them is left."""
    before_page = {registry: set(registry.module_dict) for registry in (MODELS, TRANSFORMS, DATASETS)}
    names = [name.removesuffix('.py').replace('/', '.') for name in SOURCES]
    for name, file in zip(names, SOURCES, strict=True):
        assert not (ROOT / file).exists(), f'{file} of the page hides a file of the project'
        module = ModuleType(name)
        sys.modules[name] = module
        exec(compile(FILES[file], file, 'exec'), module.__dict__)
    yield
    for name in names:
        del sys.modules[name]
    for registry, before in before_page.items():
        for name in set(registry.module_dict) - before:
            del registry.module_dict[name]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, listed in both forms, and two classes."""
    root = tmp_path_factory.mktemp('data')
    (root / 'videos').mkdir()
    for name in ('a', 'b'):
        write_video(root / 'videos' / f'{name}.mp4', 20)
    for split in ('train', 'val'):
        (root / f'{split}.txt').write_text('a.mp4 0\nb.mp4 1\n')
        (root / f'{split}.csv').write_text('video,action\na.mp4,clap\nb.mp4,wave\n')
    (root / 'classes.txt').write_text('clap\nwave\n')
    return root


def load(name: str, data: Path, tmp_path: Path) -> Config:
    """Load a config of the page, beside the one that it derives from, with tiny frames."""
    text = FILES[f'configs/custom/{name}.py']
    base = ROOT / 'configs' / 'custom' / 'small_from_scratch.py'
    file = tmp_path / f'{name}.py'
    file.write_text(text.replace('small_from_scratch.py', str(base)))
    options = [f'data_root={data}', 'train_dataloader.batch_size=2', 'crop_size=32', 'short_side=36']
    return load_config(file, [*options, 'train_dataloader.num_workers=0'])


def test_each_part_has_a_file_an_import_and_a_config() -> None:
    assert len(SOURCES) == len(IMPORTS) == len(CONFIGS) == 4
    for file, (home, module, name) in zip(SOURCES, IMPORTS, strict=True):
        assert (ROOT / home).is_file()
        assert module == file.removesuffix('.py').replace('/', '.')
        assert f'\nclass {name}(' in FILES[file]
        assert any(f"type='{name}'" in FILES[f'configs/custom/{config}.py'] for config in CONFIGS)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_network_of_every_config_learns_from_a_batch_of_its_data(name: str, data: Path, tmp_path: Path) -> None:
    config = load(name, data, tmp_path)
    loader = build_loader(config['train_dataloader'], 'train_dataloader', RuntimeCfg())
    loader.dataset.check_labels(2)
    batch = next(iter(loader))
    assert batch['inputs'].shape == (2, 1, 4, 3, 4, 32, 32)
    assert sorted(batch['label'].tolist()) == [0, 1]
    torch.manual_seed(0)
    model = build(config['model'], MODELS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        losses.append(model(batch['inputs'], batch['label'])['loss'])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses).isfinite().all()
    assert losses[0] != losses[1]


@pytest.mark.parametrize('name', TESTS)
def test_the_tests_of_the_page_pass_and_mirror_its_files(name: str) -> None:
    assert re.sub(r'^tests/(.*)test_', r'codes/\1', name) in SOURCES
    content: dict = {}
    exec(compile(FILES[name], name, 'exec'), content)
    tests = [value for key, value in content.items() if key.startswith('test_')]
    assert tests
    for test in tests:
        test()


def test_wrong_action_in_the_csv_file_is_told_by_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / 'wrong.csv').write_text('video,action\na.mp4,clap\nb.mp4,wafe\n')
    csv_videos = DATASETS.module_dict['CsvVideos']
    with pytest.raises(ValueError, match=r"wrong.csv:3: 'wafe' is no class of .*classes.txt"):
        csv_videos([], str(tmp_path / 'wrong.csv'), str(data / 'videos'), str(data / 'classes.txt'))


def test_links_lead_somewhere() -> None:
    for link in re.findall(r'\]\(([^)]+)\)', PAGE):
        assert (ROOT / 'docs' / link).exists(), link
    for file in ('README.md', 'CONTRIBUTING.md'):
        assert '](docs/extending.md)' in (ROOT / file).read_text()
