from pathlib import Path

import pytest
import torch

from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.experiments.plan import Plan, Trial, Variant, read_plan

PLANS = Path(__file__).parents[2] / 'configs' / 'experiments'

PLAN = """
config = 'base'
seeds = [3, 1]
cfg_options = ['a=1', 'b=[1, 2]']

[variants.I3D]
cfg_options = ['a=2']

[variants."DSANet, on TSM"]
config = 'own.py'
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / 'plan.toml'
    file.write_text(text, encoding='utf-8')
    return file


def test_variants_inherit_config_and_options(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, PLAN))
    first = Variant('I3D', 'base', ('a=1', 'b=[1, 2]', 'a=2'))
    second = Variant('DSANet, on TSM', 'own.py', ('a=1', 'b=[1, 2]'))
    assert plan == Plan((first, second), (3, 1))
    assert plan.trials == [Trial(first, 3), Trial(second, 3), Trial(first, 1), Trial(second, 1)]
    assert [trial.folder for trial in plan.trials] == [
        'i3d_seed3',
        'dsanet_on_tsm_seed3',
        'i3d_seed1',
        'dsanet_on_tsm_seed1',
    ]


def test_given_options_come_last(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, PLAN), ['a=9'])
    assert plan.variants[0].cfg_options == ('a=1', 'b=[1, 2]', 'a=2', 'a=9')


def test_seed_is_zero_by_default(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, "config = 'x'\n[variants.A]\n"))
    assert plan == Plan((Variant('A', 'x', ()),), (0,))


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('seeds = [', 'TOML'),
        ("config = 'x'", 'variants'),
        ("config = 'x'\n[variants]", 'variants'),
        ('[variants.A]', 'variants.A'),
        ("config = 'x'\nsead = [1]\n[variants.A]", 'sead'),
        ("config = 'x'\nseeds = 1\n[variants.A]", 'seeds'),
        ("config = 'x'\nseeds = []\n[variants.A]", 'seeds'),
        ("config = 'x'\nseeds = [1, 1]\n[variants.A]", 'seeds'),
        ("config = 'x'\nseeds = [-1]\n[variants.A]", 'seeds'),
        ("config = 'x'\nseeds = [true]\n[variants.A]", 'seeds'),
        ('config = 3\n[variants.A]', 'config'),
        ("config = 'x'\n[variants.A]\nconfigs = 'y'", 'configs'),
        ("config = 'x'\n[variants.A]\ncfg_options = ['lr']", 'lr'),
        ("config = 'x'\ncfg_options = [1]\n[variants.A]", '1'),
        ("config = 'x'\ncfg_options = 'a=1'\n[variants.A]", 'cfg_options'),
        ("config = 'x'\nvariants = {A = 1}", 'variants.A'),
        ("config = 'x'\n[variants.'A b']\n[variants.'a-B']", 'a_b'),
        ("config = 'x'\n[variants.'+']", r"'\+'"),
        ('config = \'x\'\n[variants."a\\nb"]', 'control'),
        (f"config = 'x'\n[variants.{'x' * 201}]", '200'),
        ("config = 'x'\nvariants = 3", 'table'),
        ("config = 'x'\ncfg_options = ['runtime.seed=3']\n[variants.A]", 'runtime.seed'),
        ("config = 'x'\n[variants.A]\ncfg_options = ['runtime.seed=3']", 'runtime.seed'),
    ],
)
def test_wrong_plan_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        read_plan(write(tmp_path, text))
    assert 'plan.toml' in str(error.value)


def test_given_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='--cfg-options.*runtime.seed'):
        read_plan(write(tmp_path, PLAN), ['runtime.seed=3'])


def test_names_may_have_any_letters(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, "\ufeffconfig = 'x'\n[variants.'基线 | Größe/2']\n"))
    assert plan.trials[0].folder == '基线_größe_2_seed0'


def test_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='none.toml'):
        read_plan(tmp_path / 'none.toml')


@pytest.mark.parametrize('name', [file.stem for file in sorted(PLANS.glob('*.toml'))])
def test_included_plans_describe_models(name: str) -> None:
    """The variants of an included plan are valid, and no two have the same model and data."""
    plan = read_plan(PLANS / f'{name}.toml')
    configs = [load_config(variant.config, list(variant.cfg_options)) for variant in plan.variants]
    assert len({str((config['model'], config['test_dataloader'])) for config in configs}) == len(configs)
    with torch.device('meta'):
        for config in configs:
            model = dict(config['model'])
            model['backbone'] = {**model['backbone'], 'pretrained': None}
            if model['cls_head']['num_classes'] is None:
                model['cls_head'] = {**model['cls_head'], 'num_classes': 4}
            build(model, MODELS)
