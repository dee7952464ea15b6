"""Print parameters, multiply-adds and the shapes behind each stage of a config's model. Needs no data and no weights.

GMACs count the convolutions, the matrix products and DSA's weighted sums of one view of one video; norms,
activations and pooling are left out.
"""

import argparse
import ast
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dsanet.config.loading import load_config  # noqa: E402
from dsanet.config.registry import MODELS, build  # noqa: E402
from dsanet.engine.logging import plain_errors  # noqa: E402


def find_input_shape(config: dict[str, Any]) -> tuple[int, ...]:
    """Return (U, T, H, W) of a training sample, read off the training pipeline.

    Raises:
        ValueError: the pipeline does not say; give --input-shape then.
    """
    dataset = config.get('train_dataloader', config['test_dataloader'])['dataset']
    pipeline = dataset.get('datasets', [dataset])[0]['pipeline']  # the parts of a mixture give samples of one shape
    sample = next((step for step in pipeline if step['type'] in ('SampleSnippets', 'SampleSegments')), None)
    sizes = [step['size'] for step in pipeline if 'size' in step]
    if sample is None or not sizes:
        raise ValueError(
            'the pipeline has no SampleSnippets or SampleSegments, or no step with a size; give --input-shape U T H W'
        )
    height, width = (sizes[-1], sizes[-1]) if isinstance(sizes[-1], int) else sizes[-1]
    return sample['num_snippets'], sample['frames_per_snippet'], height, width


def count_macs(model: nn.Module, inputs: torch.Tensor) -> int:
    """Return the multiply-adds of one forward pass, which torch counts operator by operator."""
    declared: dict[str, int] = {}  # modules that know better than their operators, by name

    def record(name: str, module: Any) -> Any:
        return module.register_forward_pre_hook(lambda _, args: declared.update({name: module.num_macs(*args)}))

    hooks = [record(name, module) for name, module in model.named_modules() if hasattr(module, 'num_macs')]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    flops = {name: sum(count.values()) for name, count in counter.get_flop_counts().items()}
    total = flops.get('Global', 0) // 2  # a model may have no products at all
    for name, macs in declared.items():
        total += macs - flops.get(f'{type(model).__name__}.{name}', 0) // 2
    return total


def summarise(model_cfg: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return ``params``, ``gmacs`` and ``stages`` of a model for one view (U, T, H, W).

    Nothing is computed: the model stands on torch's meta device, which has shapes but no numbers.
    """
    num_snippets, frames, height, width = shape
    with torch.device('meta'):
        model = build(model_cfg, MODELS, 'model').eval()
        inputs = torch.zeros(1, 1, num_snippets, 3, frames, height, width, dtype=torch.uint8)
    stages = []

    def record(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            params = sum(p.numel() for p in module.parameters())
            stages.append({'name': name, 'shape': list(output.shape), 'params': params})

        return module.register_forward_hook(hook)

    backbone, name = model.backbone, 'backbone'
    if hasattr(backbone, 'net'):  # a wrapper: show what it wraps
        backbone, name = backbone.net, 'backbone.net'
    parts = {f'{name}.{child}': part for child, part in backbone.named_children() if not isinstance(part, nn.ReLU)}
    hooks = [record(name, part) for name, part in {**parts, 'cls_head': model.cls_head}.items()]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return {
        'params': sum(p.numel() for p in model.parameters()),
        'gmacs': count_macs(model, inputs) / 1e9,
        'input_shape': [1, 1, num_snippets, 3, frames, height, width],
        'stages': stages,
    }


TABLE_HEAD = """# What the models cost

Written by `python tools/analysis/model_summary.py --table > docs/model_costs.md`; a test compares it with the configs.

One view of one video, at the size of the training crop. GMACs are 10^9 multiply-adds of convolutions, linear layers,
matrix products and the weighted sums of DSA and TAM; norms, activations and pooling are left out. (Papers that count
norms too give about 0.5 % more, and some call a multiply-add two FLOPs.) A test with V views costs V times as much,
and more where its crop is larger.

| config | options | U x T x H x W | parameters | GMACs |
|---|---|---|---:|---:|
"""


def find_pages() -> list[Path]:
    """Return every page below configs/, without the fragments that pages are made of."""
    folder = ROOT / 'configs'
    files = (file for file in folder.rglob('*.py') if file.name != '__init__.py')
    return sorted(file for file in files if '_base_' not in file.relative_to(folder).parts)


def find_variations(page: Path) -> list[list[str]]:
    """Return the options of each line ``--cfg-options`` under ``Vary`` in a page's lab note; [[]] if there is none."""
    note = ast.get_docstring(ast.parse(page.read_text())) or ''
    lines = re.search(r'^Vary( +--cfg-options .+\n)+', note, re.M)
    return [shlex.split(line)[1:] for line in lines[0].removeprefix('Vary').splitlines()] if lines else [[]]


def cost_row(page: Path, options: list[str]) -> str:
    """Return a page's line of the table of costs."""
    config = load_config(page, options)
    summary = summarise(config['model'], find_input_shape(config))
    num_snippets, _, frames, height, width = summary['input_shape'][2:]
    name = page.relative_to(ROOT / 'configs')
    shown = ' '.join(f'`{option}`' for option in options)
    size = f'{num_snippets} x {frames} x {height} x {width}'
    return f'| {name} | {shown} | {size} | {summary["params"]:,} | {summary["gmacs"]:.3f} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('config', nargs='?')
    what.add_argument('--table', action='store_true', help='the costs of all configs, as Markdown')
    parser.add_argument('--json', action='store_true', help='print JSON: params, gmacs, input_shape, stages')
    parser.add_argument(
        '--input-shape',
        nargs=4,
        type=int,
        metavar=('U', 'T', 'H', 'W'),
        help='snippets, frames, height, width; by default those of the training pipeline',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config'
    )
    args = parser.parse_args()
    if args.table:
        if args.json or args.input_shape or args.cfg_options:
            parser.error('--table takes the configs as they are, without --json, --input-shape and --cfg-options')
        print(TABLE_HEAD, end='')
        for page in find_pages():
            for options in find_variations(page):
                print(cost_row(page, options))
        return
    with plain_errors():
        config = load_config(args.config, args.cfg_options)
        shape = tuple(args.input_shape or find_input_shape(config))
        try:
            summary = summarise(config['model'], shape)
        except RuntimeError as error:  # torch's, of a frame or a pixel too few
            raise ValueError(
                f'the network does not take U x T x H x W = {" x ".join(map(str, shape))}: {error}'
            ) from error
    if args.json:
        print(json.dumps(summary, indent=2))
        return
    print('input (N, V, U, C, T, H, W)  ', tuple(summary['input_shape']))
    for stage in summary['stages']:
        print(f'{stage["name"]:<22}{stage["params"]:>12,} parameters  {tuple(stage["shape"])}')
    values = math.prod(summary['input_shape'])
    print(f'parameters {summary["params"]:,}   GMACs {summary["gmacs"]:.3f}   values in a view {values:,}')


if __name__ == '__main__':
    main()
