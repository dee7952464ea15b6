"""The wheel, installed into a clean environment and used in a folder without the sources."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.sweep

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert not done.returncode, f'{command}: {done.stdout}{done.stderr}'
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('wheel')
    sources = folder / 'sources'  # a copy, because setuptools adds the files of earlier builds to the wheel
    for name in ('codes', 'configs'):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, sources)
    build = (sys.executable, '-m', 'pip', 'wheel', sources, '--no-deps', '--no-index', '--no-build-isolation')
    run(*build, '--wheel-dir', folder, cwd=folder)
    (file,) = folder.glob('dsanet-*.whl')
    return file


@pytest.fixture(scope='module')
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment and return its folder of programs."""
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, with_pip=True)
    scripts = folder / 'bin'
    run(scripts / 'python', '-m', 'pip', 'install', '--no-deps', '--no-index', wheel, cwd=folder)
    # Dependencies such as torch come from the current environment. Its .pth files are not read, so an editable install
    # of dsanet has no effect.
    (site,) = folder.rglob('site-packages')
    others = [path for path in sys.path if Path(path).name in ('site-packages', 'dist-packages')]
    (site / 'others.pth').write_text('\n'.join(others))
    return scripts


def test_wheel_contains_only_modules_configs_and_plans(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if '.dist-info/' not in name}
    modules = [f'dsanet/{file.relative_to(ROOT / "codes").as_posix()}' for file in (ROOT / 'codes').rglob('*.py')]
    configs = [f'dsanet/{file.relative_to(ROOT).as_posix()}' for file in (ROOT / 'configs').rglob('*.py')]
    plans = [f'dsanet/{file.relative_to(ROOT).as_posix()}' for file in (ROOT / 'configs/experiments').iterdir()]
    assert names == {*modules, *configs, *plans, 'dsanet/py.typed'}


IMPORT_ALL = """
import importlib, pkgutil, dsanet
for module in pkgutil.walk_packages(dsanet.__path__, 'dsanet.'):
    if module.name != 'dsanet.__main__' and not module.name.startswith('dsanet.configs.'):
        print(importlib.import_module(module.name).__file__)
"""


def test_every_module_is_imported_from_the_wheel(scripts: Path, tmp_path: Path) -> None:
    files = run(scripts / 'python', '-W', 'error', '-c', IMPORT_ALL, cwd=tmp_path).splitlines()
    assert len(files) > 100
    assert all(Path(file).is_relative_to(scripts.parent) for file in files)


PREDICT = """
import json, sys
from dsanet import inference_recognizer, init_recognizer, list_models

assert 'demo/dsanet_ordered_actions' in list_models()
model = init_recognizer('demo/dsanet_ordered_actions', 'work_dirs/dsanet_ordered_actions/best.pth')
print(json.dumps(inference_recognizer(model, sys.argv[1])))
"""


def test_wheel_trains_tests_and_predicts_by_name(scripts: Path, tmp_path: Path) -> None:
    dsanet, config = scripts / 'dsanet', 'demo/dsanet_ordered_actions'
    assert 'train' in run(dsanet, '--help', cwd=tmp_path)
    run(dsanet, 'make-demo-videos', 'data/ordered_actions', '--num-videos', '32', cwd=tmp_path)
    run(dsanet, 'train', config, '--cfg-options', 'train_cfg.max_epochs=1', cwd=tmp_path)
    checkpoint = 'work_dirs/dsanet_ordered_actions/best.pth'
    for number, more in enumerate(((), ('--gpus', '2'))):
        run(dsanet, 'test', config, checkpoint, '--metrics-out', f'{number}.json', *more, cwd=tmp_path)
    one, two = (json.loads((tmp_path / f'{number}.json').read_text()) for number in range(2))
    assert one['num_videos'] == 8
    assert one == two
    video = next((tmp_path / 'data/ordered_actions').rglob('*.mp4'))
    predictions = json.loads(run(scripts / 'python', '-c', PREDICT, video, cwd=tmp_path))
    assert len(predictions) == 8
    assert sum(probability for _, probability in predictions) == pytest.approx(1)
