"""Forward passes and training steps of the models of configs, with random weights and random frames."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dsanet.benchmarks.measuring import Result, add_rates, measure, reference_functions, seconds
from dsanet.config.loading import read_section
from dsanet.config.registry import MODELS, build, get_class
from dsanet.config.schema import RuntimeCfg
from dsanet.engine.class_weights import resolve_class_weights
from dsanet.engine.evaluator import autocast
from dsanet.engine.preparation import place_model
from dsanet.engine.train_step import Stepper
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.models.summary import find_input_shape, summarize_model

Config = dict[str, Any]
Shape = tuple[int, ...]
PRECISIONS: dict[str, str | None] = {'fp32': None, 'bf16': 'bf16'}  # values of runtime.amp


def find_test_shape(config: Config) -> Shape:
    """Return (U, T, H, W) of one test view."""
    return find_input_shape({'test_dataloader': config['test_dataloader']})


def random_batch(batch_size: int, shape: Shape, num_classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random frames, uint8 (N, 1, U, C, T, H, W), channels-last as from a loader, and random labels (N,)."""
    num_snippets, frames, height, width = shape
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, 1, num_snippets, frames, height, width, 3)
    inputs = torch.randint(256, size, dtype=torch.uint8, generator=generator).movedim(-1, 3)  # (N, V, U, C, T, H, W)
    label = torch.randint(num_classes, (batch_size,), generator=generator)
    return inputs.to(device), label.to(device)


def without_weight_files(config: Config) -> Config:
    """Return a copy of a config without ``pretrained`` weights."""
    config = copy.deepcopy(config)
    if 'pretrained' in config['model']['backbone']:
        config['model']['backbone']['pretrained'] = None
    return config


def benchmark_model(
    configs: Mapping[str, Config],
    repeats: int,
    warmup: int,
    device: torch.device,
    batch_size: int = 1,
    shape: Shape | None = None,
) -> list[Result]:
    """Measure the forward pass in eval mode, in fp32 and bf16, without and with the optimization of ``dsanet test``.

    Args:
        configs: checked configs by name.
        repeats, warmup: as for ``measure``.
        device: where to run.
        batch_size: videos in a batch, of one view each.
        shape: U, T, H, W; None for that of each config's test views.

    Returns:
        The references, and for each config, variant and precision a result with ``gmacs``, ``share_of_matmul``, and
        ``x_plain``, the time relative to the model that is not optimized.
    """
    functions = reference_functions(device)
    facts: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        size = shape or find_test_shape(config)
        model = build(without_weight_files(config)['model'], MODELS, 'model').eval().requires_grad_(False)
        place_model(model, device)
        inputs, _ = random_batch(batch_size, size, model.num_classes, device)
        gmacs = batch_size * summarize_model(config['model'], size)['gmacs']
        for variant, network in (('', model), (', optimized', optimized_copy(model, config))):
            for precision in PRECISIONS:
                full_name = f'{name} forward {precision}{variant}'
                functions[full_name] = make_forward(network, inputs, precision, device)
                facts[full_name] = {'precision': precision, 'gmacs': gmacs, 'videos': batch_size, 'shape': list(size)}
    return _measure(functions, facts, repeats, warmup, device)


def optimized_copy(model: Recognizer3D, config: Config) -> Recognizer3D:
    """Return a copy that is optimized as in ``dsanet test``."""
    copied = copy.deepcopy(model)
    copied.optimize(read_section(config, 'runtime', RuntimeCfg).compile)
    return copied


def make_forward(model: Any, inputs: Tensor, precision: str, device: torch.device) -> Callable[[], None]:
    """Return a forward pass in eval mode."""

    def forward() -> None:
        with torch.inference_mode(), autocast(device, PRECISIONS[precision]):
            model(inputs)

    return forward


def training_variants(config: Config) -> dict[str, Config]:
    """Return copies of a config by name: as it is, with activation checkpointing if the backbone has it, and without
    inserted modules if there are any.
    """
    config = resolve_class_weights(without_weight_files(config), equal=True)
    config['train_cfg'] = {**config.get('train_cfg', {}), 'scale_lr': False, 'base_batch_size': None}
    backbone = config['model']['backbone']
    variants = {'': config}
    if 'activation_checkpointing' in inspect.signature(get_class(backbone, MODELS, 'model.backbone')).parameters:
        for name, flag in (('', False), (', checkpointing', True)):
            variants[name] = copy.deepcopy(config)
            variants[name]['model']['backbone']['activation_checkpointing'] = flag
    if config['model'].get('module_cfg'):
        control = copy.deepcopy(variants[''])
        control['model']['module_cfg'] = None
        variants[', without modules'] = control
    return variants


def benchmark_train(
    configs: Mapping[str, Config],
    repeats: int,
    warmup: int,
    device: torch.device,
    batch_size: int = 1,
    shape: Shape | None = None,
) -> list[Result]:
    """Measure a training step: forward and backward pass and the update of the weights, in fp32 and bf16.

    Beside the model as it is, also with activation checkpointing, and without inserted modules such as DSA.

    Args:
        configs, repeats, warmup, device, batch_size: as for :func:`benchmark_model`.
        shape: U, T, H, W; None for that of each config's training samples.

    Returns:
        The references, and for each config, variant and precision a result with ``gmacs`` of the forward and backward
        pass, three times those of the forward pass, ``share_of_matmul``, and ``x_plain``, the time relative to the
        same config and precision without checkpointing and with its modules.
    """
    functions = reference_functions(device)
    facts: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        size = shape or find_input_shape(config)
        for variant, changed in training_variants(config).items():
            gmacs = 3 * batch_size * summarize_model(changed['model'], size)['gmacs']
            for precision, amp in PRECISIONS.items():
                full_name = f'{name} step {precision}{variant}'
                functions[full_name] = make_step(changed, amp, batch_size, size, device)
                facts[full_name] = {
                    'precision': precision,
                    'gmacs': gmacs,
                    'videos': batch_size,
                    'shape': list(size),
                }
    return _measure(functions, facts, repeats, warmup, device)


def make_step(
    config: Config, amp: str | None, batch_size: int, shape: Shape, device: torch.device
) -> Callable[[], None]:
    """Return a training step with random frames; ``amp`` is that of the runtime section."""
    runtime = {**config.get('runtime', {}), 'amp': amp, 'compile': False}
    loader = {**config['train_dataloader'], 'batch_size': batch_size}
    stepper = Stepper({**config, 'runtime': runtime, 'train_dataloader': loader}, device)
    stepper.model.train()
    inputs, label = random_batch(batch_size, shape, stepper.model.num_classes, device)

    def step() -> None:
        stepper.update(stepper.backward([{'inputs': inputs, 'label': label}], 0))

    return step


def _measure(
    functions: Mapping[str, Callable[[], Any]],
    facts: Mapping[str, dict[str, Any]],
    repeats: int,
    warmup: int,
    device: torch.device,
) -> list[Result]:
    results = measure(functions, repeats, warmup, device)
    for result in results:
        result.facts.update(facts.get(result.name, {}))
    times = {result.name: seconds(result, device) for result in results}
    for result in results:
        if result.name in facts:
            result.facts['x_plain'] = times[result.name] / times[result.name.partition(',')[0]]
    add_rates(results, device)
    return results
