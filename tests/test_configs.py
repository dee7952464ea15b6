"""Every page below configs/: its lab note, its costs, and its network, built and trained for one step."""

import inspect
import re
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsanet.commands.summary import TABLE_HEAD, cost_row, find_configs, find_variations
from dsanet.config.loading import load_config, read_section
from dsanet.config.registry import DATASETS, METRICS, MODELS, SCHEDULES, TRACKERS, TRANSFORMS, build
from dsanet.config.schema import ParametersCfg, RuntimeCfg, TrainCfg
from dsanet.datasets.classes import load_config_with_classes
from dsanet.engine.optim import build_optimizer
from dsanet.models.summary import find_input_shape

ROOT = Path(__file__).parents[1]
PAGES = find_configs()
VARIATIONS = [(page, options) for page in PAGES for options in find_variations(page)]
NAMES = [' '.join([str(page.relative_to(ROOT / 'configs')), *options]) for page, options in VARIATIONS]
TABLE = (ROOT / 'docs' / 'model_costs.md').read_text()


def relates_snippets(value: Any) -> bool:
    """Say whether something in a model's config lets the snippets of a video see each other."""
    if isinstance(value, Mapping):
        # The weights of a DSA kernel sum to 1, so one of length 1 is the identity.
        own = value.get('type') in ('V4D', 'TRNHead') or value.get('type') == 'DSA' and value.get('kernel_size', 3) > 1
        return own or any(map(relates_snippets, value.values()))
    return isinstance(value, list | tuple) and any(map(relates_snippets, value))


def rows_of_table() -> dict[tuple[str, str], str]:
    """Return the lines of the table of costs by config and options."""
    lines = TABLE.removeprefix(TABLE_HEAD).splitlines()
    return {(fields[1].strip(), fields[2].strip()): line for line in lines if (fields := line.split('|'))}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_note_and_config_agree_on_the_batch(page: Path) -> None:
    pattern = r'^Batch +(\d+) (?:GPU|process)(?:e?s)? x (\d+) videos(?: x (\d+) batches)?'
    processes, batch_size, batches = re.search(pattern, page.read_text(), re.M).groups(default='1')
    config = load_config(page)
    assert config['train_dataloader']['batch_size'] == int(batch_size)
    assert config['train_cfg'].get('accumulate', 1) == int(batches)
    assert config['train_cfg']['base_batch_size'] == int(processes) * int(batch_size) * int(batches)


def test_pages_have_different_names() -> None:
    """The work dir is called after the page, so two pages of one name would write into each other's."""
    stems = [page.stem for page in PAGES]
    assert len(set(stems)) == len(stems)


def test_the_table_of_costs_has_a_line_for_every_page_and_variation() -> None:
    assert TABLE.startswith(TABLE_HEAD)
    wanted = {
        (str(page.relative_to(ROOT / 'configs')), ' '.join(f'`{option}`' for option in options))
        for page, options in VARIATIONS
    }
    assert set(rows_of_table()) == wanted


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_lab_notes_state_the_costs_of_the_table(page: Path) -> None:
    text = ' '.join(page.read_text().split())
    name = str(page.relative_to(ROOT / 'configs'))
    costs = [row.split('|')[4:6] for (config, _), row in rows_of_table().items() if config == name]
    found = re.findall(r'([\d.]+) M parameters, ([\d.]+) GMACs a view', text)
    assert found, f'{name} does not state its costs: ... M parameters, ... GMACs a view'
    for stated in found:
        # Half a unit of the last digit, and of the last one in the table.
        digits = [len(number.partition('.')[2]) for number in stated]
        limits = [0.5 * 10 ** -digits[0] + 1e-9, 0.5 * 10 ** -digits[1] + 0.0005 + 1e-9]
        wanted = [(int(params.replace(',', '')) / 1e6, float(gmacs)) for params, gmacs in costs]
        fits = [all(abs(float(s) - w) <= e for s, w, e in zip(stated, w2, limits, strict=True)) for w2 in wanted]
        assert any(fits), f'{name} says {stated}, the table {costs}'


# What no page sets, and why it is there all the same.
SET_BY_NO_PAGE = {
    # About a run and its machine, not about the experiment: for the command line.
    'train_cfg': {'sync_bn', 'scale_lr', 'max_nonfinite'},
    'runtime': {'deterministic', 'on_save_error', 'timeout_minutes', 'find_unused_parameters', 'compile', 'trackers'},
    'WandbTracker': {'project', 'name', 'entity'},
    'MlflowTracker': {'experiment', 'tracking_uri', 'name'},
    # ResNetTSM, which pages use, makes the module and has its option under the same name.
    'TemporalShift': {'shift_div'},
}
# TenCrop is TSN's test; the pages of 2D networks have three crops like the others, to be comparable.
USED_BY_NO_PAGE = {'WandbTracker', 'MlflowTracker', 'TemporalShift', 'TenCrop'}
OURS = (DATASETS, MODELS, METRICS, SCHEDULES, TRACKERS, TRANSFORMS)


def find_used_options() -> dict[str, set[str]]:
    """Return for each class, and each section, the options that some page sets."""
    used: dict[str, set[str]] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            used.setdefault(value.get('type', name), set()).update(value)
            for key, item in value.items():
                collect(key, item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(name, item)

    for page in PAGES:
        collect('', load_config(page))
    return used


def test_every_option_is_set_by_a_page_or_has_a_reason() -> None:
    """Options of a base class count for all its children."""
    used = find_used_options()
    unset: dict[str, set[str]] = {}
    for name, cls in {'train_cfg': TrainCfg, 'runtime': RuntimeCfg, 'parameters': ParametersCfg}.items():
        unset[name] = set(inspect.signature(cls).parameters) - used[name]
    for registry in OURS:
        for name, cls in registry.module_dict.items():
            family = set(cls.__mro__) - {*nn.Module.__mro__, ABC}
            relatives = [other for other in registry.module_dict.values() if family & set(other.__mro__)]
            known = set().union(*(used.get(other.__name__, ()) for other in relatives))
            unset[name] = set(inspect.signature(cls).parameters) - known - {'in_channels'}  # of its place
    assert {name: options for name, options in unset.items() if options} == SET_BY_NO_PAGE
    assert {name for registry in OURS for name in registry.module_dict} - used.keys() == USED_BY_NO_PAGE


def test_mean_average_precision_ranks_videos_by_what_compares_them() -> None:
    """Not by scores before softmax, to which any number may be added for a whole video."""
    ranking = []
    for page in PAGES:
        config = load_config(page)
        if any(metric['type'] == 'MeanAveragePrecision' for metric in config['metrics']):
            loss = MODELS.module_dict[config['model']['cls_head'].get('loss', {}).get('type', 'CrossEntropyLoss')]
            averages_prob = config['model'].get('average_views') == 'prob'
            assert averages_prob or loss.activation == 'sigmoid', f"{page.name} needs average_views='prob'"
            ranking.append(page.parent.name)
    assert sorted(ranking) == ['activitynet', 'activitynet', 'custom']


@pytest.mark.sweep
@pytest.mark.parametrize(('page', 'options'), VARIATIONS, ids=NAMES)
def test_costs_are_those_of_the_table(page: Path, options: list[str]) -> None:
    row = cost_row(page, options)
    assert row in TABLE, f'write the table anew: dsanet summary --table; now {row}'


@pytest.fixture
def few_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.sweep
@pytest.mark.parametrize(('page', 'options'), VARIATIONS, ids=NAMES)
def test_network_trains_a_step_and_knows_the_order_of_snippets_if_it_should(
    page: Path, options: list[str], few_threads: None
) -> None:
    config = load_config_with_classes(page, options, num_classes=2)
    num_snippets, frames, _, _ = find_input_shape(config)
    torch.manual_seed(0)
    model = build(config['model'], MODELS, 'model')
    inputs = torch.randint(256, (2, 1, num_snippets, 3, frames, 32, 32), dtype=torch.uint8)
    check_step(model, config, inputs)
    if num_snippets > 1 and config['model']['cls_head'].get('test_window') is None:
        check_order(model, inputs, mixes=relates_snippets(config['model']))


def check_step(model: nn.Module, config: Mapping[str, Any], inputs: Tensor) -> None:
    """Run one step as the config's optimizer does; every trainable weight has a gradient, and the step moves some."""
    dataset = config['train_dataloader']['dataset']
    label = torch.tensor([0, model.num_classes - 1])
    if dataset.get('multi_hot') is not None:
        label = nn.functional.one_hot(label, model.num_classes).float()
    optimizer = build_optimizer(config['optimizer'], model, read_section(config, 'parameters', ParametersCfg))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    losses = model(inputs, label)
    losses['loss'].backward()
    clip = read_section(config, 'train_cfg', TrainCfg).clip_grad_norm
    if clip is not None:
        assert nn.utils.clip_grad_norm_(model.parameters(), clip).isfinite()
    optimizer.step()
    assert losses['loss'].isfinite()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, f'{name} has no gradient'
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert any(name.startswith('cls_head.') for name in moved)
    assert any(name.startswith('backbone.') for name in moved)


@torch.no_grad()
def check_order(model: nn.Module, inputs: Tensor, mixes: bool) -> None:
    """Reverse the snippets: scores change if the network relates snippets, and by no more than rounding if not."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean over all batches: of the one below
            module.reset_running_stats()
    model.train()
    for module in model.modules():  # so that nothing is dropped while the statistics are taken
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False
    model(inputs)
    model.eval()
    for name, parameter in model.named_parameters():
        if '.v4d.' in name:  # starts at zero
            nn.init.normal_(parameter, std=0.1 / parameter[0].numel() ** 0.5)
    scores, turned = model(inputs), model(inputs.flip(2))
    change = ((scores - turned).abs().max() / scores.std()).item()
    assert (change > 1e-4) if mixes else (change < 1e-5), f'the order changes the scores by {change} of their spread'
