import json
import subprocess
import sys
from pathlib import Path

import pytest

from codes.config import load_config
from tools.analysis.model_summary import find_input_shape, summarise

ROOT = Path(__file__).parents[3]
DSANET = 'configs/kinetics/r50_e100_s1_8.py'
CONTROL = 'configs/kinetics/i3d_r50_e100_s1_8.py'


@pytest.mark.parametrize(
    ('config', 'params', 'gmacs'), [(CONTROL, 32_454_096, '166.963'), (DSANET, 32_454_456, '166.968')]
)
def test_costs_of_the_papers_main_experiment_and_of_its_control(config: str, params: int, gmacs: str) -> None:
    loaded = load_config(ROOT / config)
    summary = summarise(loaded['model'], find_input_shape(loaded))
    assert summary['input_shape'] == [1, 1, 4, 3, 8, 224, 224]
    assert summary['params'] == params
    assert f'{summary["gmacs"]:.3f}' == gmacs


@pytest.mark.parametrize(
    ('shape', 'control', 'dsanet'), [((4, 4, 224, 224), '83.483', '83.485'), ((4, 8, 256, 256), '218.074', '218.079')]
)
def test_costs_at_other_input_sizes(shape: tuple[int, ...], control: str, dsanet: str) -> None:
    for config, gmacs in ((CONTROL, control), (DSANET, dsanet)):
        assert f'{summarise(load_config(ROOT / config)["model"], shape)["gmacs"]:.3f}' == gmacs


def test_costs_of_resnet18_by_hand() -> None:
    """Stages 3 and 4 inflated to 3x3x3: counted layer by layer here, for one snippet of one frame of 32 x 32."""
    macs, params, size, channels = 64 * 3 * 49 * 16 * 16, 64 * 3 * 49 + 128, 8, 64
    for stage in range(4):
        out, length = 64 * 2**stage, 3 if stage >= 2 else 1
        size = size // 2 if stage else size
        convolutions = [channels * out * 9 * length, *[out * out * 9 * length] * 3]
        norms = 4
        if channels != out:
            convolutions.append(channels * out)
            norms += 1
        macs += sum(convolutions) * size * size
        params += sum(convolutions) + norms * 2 * out
        channels = out
    model = {
        'type': 'Recognizer3D',
        'backbone': {'type': 'ResNet_I3D', 'depth': 18},
        'cls_head': {'type': 'I3DClsHead', 'num_classes': 10, 'in_channels': 512},
    }
    summary = summarise(model, (1, 1, 32, 32))
    assert summary['params'] == params + 5130
    assert summary['gmacs'] * 1e9 == macs + 5120


def test_stages_come_with_shapes_and_parameters() -> None:
    summary = summarise(load_config(ROOT / CONTROL)['model'], (4, 8, 224, 224))
    shapes = {stage['name']: stage['shape'] for stage in summary['stages']}
    assert shapes['backbone.conv1'] == [4, 64, 8, 112, 112]
    assert shapes['backbone.layer1'] == [4, 256, 8, 56, 56]
    assert shapes['backbone.layer4'] == [4, 2048, 8, 7, 7]
    assert shapes['cls_head'] == [1, 400]
    assert sum(stage['params'] for stage in summary['stages']) == summary['params']


def test_command_prints_json_or_a_table() -> None:
    command = [sys.executable, 'tools/analysis/model_summary.py', 'configs/demo/dsanet_ordered_actions.py']
    shape = ['--input-shape', '4', '2', '64', '48']
    done = subprocess.run([*command, '--json', *shape], cwd=ROOT, capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout)
    assert {'params', 'gmacs', 'stages'} <= summary.keys()
    assert summary['input_shape'] == [1, 1, 4, 3, 2, 64, 48]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f'parameters {summary["params"]:,}' in done.stdout


def test_pipeline_that_does_not_say_its_size_is_refused() -> None:
    config = {'test_dataloader': {'dataset': {'pipeline': [{'type': 'PackInputs'}]}}}
    with pytest.raises(ValueError, match='give --input-shape U T H W'):
        find_input_shape(config)
