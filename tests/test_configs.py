"""Every config below configs/: its header, its costs, and one training step of its network."""

import inspect
import re
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.video import mvit
from torchvision.models.video.mvit import MViT

from dsanet.config.loading import load_config, read_section
from dsanet.config.registry import DATASETS, METRICS, MODELS, SCHEDULES, TRACKERS, TRANSFORMS, build
from dsanet.config.schema import ParametersCfg, RuntimeCfg, TrainCfg
from dsanet.datasets.classes import load_config_with_classes
from dsanet.engine.class_weights import resolve_class_weights
from dsanet.engine.optim import build_optimizer
from dsanet.models.backbones.torchvision_video import TorchvisionVideo
from dsanet.models.modules_maker.DSA import DSA
from dsanet.models.summary import find_input_shape
from tests.make_model_costs import CONFIGS, TABLE_HEAD, cost_row, find_variations

ROOT = Path(__file__).parents[1]
VARIATIONS = [(file, options) for file in CONFIGS for options in find_variations(file)]
NAMES = [' '.join([str(file.relative_to(ROOT / 'configs')), *options]) for file, options in VARIATIONS]
TABLE = (ROOT / 'docs' / 'model_costs.md').read_text()


def has_dsa(value: Any) -> bool:
    """Return whether a part of a model config inserts DSA."""
    if isinstance(value, Mapping):
        return value.get('type') == 'DSA' or any(map(has_dsa, value.values()))
    return isinstance(value, list | tuple) and any(map(has_dsa, value))


def relates_snippets(value: Any) -> bool:
    """Return whether a part of a model config relates the snippets of a video to each other."""
    if isinstance(value, Mapping):
        # The weights of a DSA kernel sum to 1, so one of length 1 is the identity.
        own = value.get('type') in ('V4D', 'TRNHead') or value.get('type') == 'DSA' and value.get('kernel_size', 3) > 1
        return own or any(map(relates_snippets, value.values()))
    return isinstance(value, list | tuple) and any(map(relates_snippets, value))


def rows_of_table() -> dict[tuple[str, str], str]:
    """Return the lines of the table of costs by config and options."""
    lines = TABLE.removeprefix(TABLE_HEAD).splitlines()
    return {(fields[1].strip(), fields[2].strip()): line for line in lines if (fields := line.split('|'))}


@pytest.mark.parametrize('file', CONFIGS, ids=lambda file: file.stem)
def test_header_states_the_batch_size(file: Path) -> None:
    pattern = r'^Batch +(\d+) (?:GPU|process)(?:e?s)? x (\d+) videos(?: x (\d+) batches)?'
    processes, batch_size, batches = re.search(pattern, file.read_text(), re.M).groups(default='1')
    config = load_config(file)
    assert config['train_dataloader']['batch_size'] == int(batch_size)
    assert config['train_cfg'].get('accumulate', 1) == int(batches)
    assert config['train_cfg']['base_batch_size'] == int(processes) * int(batch_size) * int(batches)


def test_config_names_are_unique() -> None:
    """Two configs with one name would write into the same work dir."""
    stems = [file.stem for file in CONFIGS]
    assert len(set(stems)) == len(stems)


def test_cost_table_has_every_config_and_variation() -> None:
    assert TABLE.startswith(TABLE_HEAD)
    wanted = {
        (str(file.relative_to(ROOT / 'configs')), ' '.join(f'`{option}`' for option in options))
        for file, options in VARIATIONS
    }
    assert set(rows_of_table()) == wanted


@pytest.mark.parametrize('file', CONFIGS, ids=lambda file: file.stem)
def test_header_states_the_costs(file: Path) -> None:
    text = ' '.join(file.read_text().split())
    name = str(file.relative_to(ROOT / 'configs'))
    costs = [row.split('|')[4:6] for (config, _), row in rows_of_table().items() if config == name]
    found = re.findall(r'([\d.]+) M parameters, ([\d.]+) GMACs per view', text)
    assert found, f'{name} does not state its costs: ... M parameters, ... GMACs per view'
    for stated in found:
        # Half a unit of the last digit, and of the last one in the table.
        digits = [len(number.partition('.')[2]) for number in stated]
        limits = [0.5 * 10 ** -digits[0] + 1e-9, 0.5 * 10 ** -digits[1] + 0.0005 + 1e-9]
        wanted = [(int(params.replace(',', '')) / 1e6, float(gmacs)) for params, gmacs in costs]
        fits = [all(abs(float(s) - w) <= e for s, w, e in zip(stated, w2, limits, strict=True)) for w2 in wanted]
        assert any(fits), f'{name} has {stated}, the table has {costs}'


# Options that no config sets, and the reason why they exist.
SET_BY_NO_CONFIG = {
    # About the run and its machine, not the experiment: set on the command line.
    'train_cfg': {'sync_bn', 'scale_lr', 'max_nonfinite'},
    'runtime': {'deterministic', 'timeout_minutes', 'find_unused_parameters', 'compile', 'trackers', 'tensorboard'},
    'WandbTracker': {'project', 'name', 'entity'},
    'MlflowTracker': {'experiment', 'tracking_uri', 'name'},
    # ResNetTSM, which configs use, builds the module and has the same option.
    'TemporalShift': {'shift_div'},
    # Shards are of one's own data; docs/shards.md has a config.
    'WebVideoDataset': {'num_videos', 'shuffle_buffer', 'shards'},
    # For the weights of mmaction2; our configs are those of the authors.
    'SlowFast': {'lateral_norm'},
    # The frame rate of one's own folders; docs/sampling.md has an example.
    'RawFramesDataset': {'fps'},
    # dsanet probe chooses them by the number of channels.
    'AttentiveHead': {'num_heads'},
}
# TenCrop is TSN's test; our configs of 2D networks use three crops like the others, to be comparable.
# AttentiveHead is made for dsanet probe.
USED_BY_NO_CONFIG = {'WandbTracker', 'MlflowTracker', 'TemporalShift', 'TenCrop', 'AttentiveHead', 'WebVideoDataset'}
OURS = (DATASETS, MODELS, METRICS, SCHEDULES, TRACKERS, TRANSFORMS)


def find_used_options() -> dict[str, set[str]]:
    """Return the options that the configs set, by class and section."""
    used: dict[str, set[str]] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            used.setdefault(value.get('type', name), set()).update(value)
            for key, item in value.items():
                collect(key, item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(name, item)

    for file in CONFIGS:
        collect('', load_config(file))
    return used


def test_every_option_is_set_by_a_config() -> None:
    """Options of a base class count for all subclasses."""
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
    assert {name: options for name, options in unset.items() if options} == SET_BY_NO_CONFIG
    assert {name for registry in OURS for name in registry.module_dict} - used.keys() == USED_BY_NO_CONFIG


def test_mean_average_precision_uses_probabilities() -> None:
    """Scores before softmax cannot be compared between videos."""
    ranking = []
    for file in CONFIGS:
        config = load_config(file)
        if any(metric['type'] == 'MeanAveragePrecision' for metric in config['metrics']):
            loss = MODELS.module_dict[config['model']['cls_head'].get('loss', {}).get('type', 'CrossEntropyLoss')]
            averages_prob = config['model'].get('average_views') == 'prob'
            assert averages_prob or loss.activation == 'sigmoid', f"{file.name} needs average_views='prob'"
            ranking.append(file.parent.name)
    assert sorted(ranking) == ['activitynet', 'activitynet', 'custom']


@pytest.mark.sweep
@pytest.mark.parametrize(('file', 'options'), VARIATIONS, ids=NAMES)
def test_costs_equal_the_table(file: Path, options: list[str]) -> None:
    row = cost_row(file, options)
    assert row in TABLE, f'update the table with python -m tests.make_model_costs; expected {row}'


def test_dsa_can_be_switched_off() -> None:
    checked = 0
    for file in CONFIGS:
        if not has_dsa(load_config(file)['model']):
            continue
        config = load_config_with_classes(file, ['model.module_cfg=None'], num_classes=2)
        with torch.device('meta'):
            model = build(config['model'], MODELS, 'model')
        build_optimizer(config['optimizer'], model, read_section(config, 'parameters', ParametersCfg))
        assert not any(isinstance(module, DSA) for module in model.modules()), file
        checked += 1
    assert checked >= 30


@pytest.fixture
def few_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.sweep
@pytest.mark.parametrize(('file', 'options'), VARIATIONS, ids=NAMES)
def test_network_trains_and_uses_snippet_order(
    file: Path, options: list[str], few_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_class_weights(load_config_with_classes(file, options, num_classes=2), equal=True)
    if config['model']['backbone'].get('name') == 'mvit_v2_s':  # it accepts one size only, here a small one
        monkeypatch.setattr(mvit, 'MViT', lambda **options: MViT(**{**options, 'spatial_size': (32, 32)}))
        monkeypatch.setattr(TorchvisionVideo, 'probe_shape', (1, 3, 16, 32, 32))
    num_snippets, frames, height, _ = find_input_shape(config)
    side = height if height <= 40 else 32  # those of the demo are small, and its transformer needs multiples of 5
    torch.manual_seed(0)
    model = build(config['model'], MODELS, 'model')
    if config['model']['backbone'].get('name') == 'mvit_v2_s':
        del model.backbone.net.blocks[4:13]  # equal blocks in the middle, to save time
    inputs = torch.randint(256, (2, 1, num_snippets, 3, frames, side, side), dtype=torch.uint8)
    check_step(model, config, inputs)
    if num_snippets > 1 and config['model']['cls_head'].get('test_window') is None:
        check_order(model, inputs, mixes=relates_snippets(config['model']))


def check_step(model: nn.Module, config: Mapping[str, Any], inputs: Tensor) -> None:
    """Train one step with the config's optimizer: all trainable weights get a gradient, some change."""
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
    """Reverse the snippets: scores change only if the network relates snippets."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # average over all batches, here one
            module.reset_running_stats()
    model.train()
    for module in model.modules():  # so that dropout is off during the pass for the statistics
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False
    model(inputs)
    model.eval()
    for name, parameter in model.named_parameters():
        if '.v4d.' in name:  # starts at zero
            nn.init.normal_(parameter, std=0.1 / parameter[0].numel() ** 0.5)
    scores, turned = model(inputs), model(inputs.flip(2))
    change = ((scores - turned).abs().max() / scores.std()).item()
    assert (change > 1e-4) if mixes else (change < 1e-5), f'reversing changes the scores by {change} of their std'
