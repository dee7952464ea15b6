"""Batch norm over several processes equals one batch norm over the whole batch."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dsanet.config.registry import MODELS, build
from dsanet.engine.optim import NORMS
from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.modules_maker.block_maker import insert_modules
from dsanet.models.sync_batch_norm import CPU_CLASSES, SyncBatchNorm3d, convert_sync_batch_norm
from dsanet.utils import distributed
from tests.engine.conftest import make_config

CPU = torch.device('cpu')
Outcome = dict[str, Tensor]

# Videos of each of two processes; 4 and 2, so that DSA's views of two snippets stay complete.
SHARES = (4, 2)


def network(**options: Any) -> nn.Module:
    """A network with DSA, which has a 1D norm, inside a block, and one after a norm, by a hook."""
    backbone = ResNet_I3D(10, base_channels=4, **options)
    dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5}
    insert_modules(backbone, [{**dsa, 'blocks': (0, 1, 0, 1)}, {**dsa, 'after': 'layer3.0.bn1'}])
    return backbone.train()


# name: (module in float64, shape of one row of its input, what the input is shifted by)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    '1d': (lambda: nn.BatchNorm1d(3), (3,), 0),
    '2d': (lambda: nn.BatchNorm2d(3, eps=0.1, momentum=0.3), (3, 2, 5), 0),
    '3d': (lambda: nn.BatchNorm3d(3), (3, 2, 4, 5), 0),
    'far from zero': (lambda: nn.BatchNorm3d(3), (3, 2, 4, 5), 1e6),
    'not affine': (lambda: nn.BatchNorm3d(3, affine=False), (3, 2, 2, 2), 0),
    'no momentum': (lambda: nn.BatchNorm3d(3, momentum=None), (3, 2, 2, 2), 0),
    'no statistics': (lambda: nn.BatchNorm3d(3, track_running_stats=False), (3, 2, 2, 2), 0),
    'eval': (lambda: nn.BatchNorm3d(3).eval(), (3, 2, 2, 2), 0),
    'network': (network, (3, 2, 32, 32), 0),
    'partial_bn': (lambda: network(partial_bn=True), (3, 2, 32, 32), 0),
    'frozen_stages': (lambda: network(frozen_stages=2), (3, 2, 32, 32), 0),
    'norm_eval': (lambda: network(norm_eval=True), (3, 2, 32, 32), 0),
    'checkpointing': (lambda: network(activation_checkpointing=True), (3, 2, 32, 32), 0),
}


def make_case(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a module with random weights, its input and the weight of each output in the loss."""
    make, shape, shift = CASES[name]
    torch.manual_seed(0)
    module = make().double()
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.affine:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    x = torch.randn(sum(SHARES), *shape, dtype=torch.float64) + shift
    with torch.no_grad():
        weight = torch.randn_like(copy.deepcopy(module)(x))
    return module, x, weight


def run_twice(module: nn.Module, x: Tensor, weight: Tensor) -> Outcome:
    """Return outputs, gradients and statistics after two passes."""
    x = x.clone().requires_grad_()
    y = module(x) + module(2 * x)
    (y * weight).sum().backward()
    of_weights = {f'grad {name}': p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {'y': y.detach(), 'grad': x.grad, **of_weights, **dict(module.named_buffers())}


def as_process(rank: int, world_size: int, folder: Path, work: Callable[[], Any]) -> None:
    """Call ``work`` as one of several processes and save its result."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'file://{folder}/group', rank=rank, world_size=world_size)
    torch.save(work(), folder / f'{rank}.pth')
    dist.destroy_process_group()


def run_processes(world_size: int, folder: Path, work: Callable[[], Any]) -> list[Any]:
    """Return the result of ``work`` of each process."""
    folder.mkdir()
    torch.multiprocessing.spawn(as_process, (world_size, folder, work), nprocs=world_size)
    return [torch.load(folder / f'{rank}.pth') for rank in range(world_size)]


def own_share() -> dict[str, Any]:
    """Run all cases with this process's share of the rows, and a few others."""
    found: dict[str, Any] = {}
    for name in CASES:
        module, x, weight = make_case(name)
        rows = slice(0, SHARES[0]) if dist.get_rank() == 0 else slice(SHARES[0], None)
        found[name] = run_twice(convert_sync_batch_norm(module, CPU), x[rows], weight[rows])
    norm = convert_sync_batch_norm(nn.BatchNorm1d(2), CPU)
    rows = torch.tensor([[1.0, 2.0], [5.0, 2.0]])[: 2 * dist.get_rank()].requires_grad_()  # none on rank 0
    y = norm(rows)
    y.sum().backward()
    found['none here'] = {'y': y.detach(), 'mean': norm.running_mean, 'grad': rows.grad}
    with pytest.raises(ValueError, match=r'\b1\b'):
        norm(torch.zeros(dist.get_rank(), 2))
    half = torch.randn(4, 2, 1, 3, 3).bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = convert_sync_batch_norm(nn.BatchNorm3d(2), CPU)(half)
    (y * half.detach().abs()).sum().backward()
    found['bf16'] = {'x': half.detach(), 'y': y.detach(), 'grad': half.grad}
    return found


@pytest.fixture(scope='module')
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of two processes, each with its share of the rows."""
    return run_processes(2, tmp_path_factory.mktemp('shares') / 'run', own_share)


@pytest.mark.parametrize('name', CASES)
def test_two_processes_equal_one_with_all_rows(shares: list[dict[str, Any]], name: str) -> None:
    one, two = (share[name] for share in shares)
    whole = run_twice(*make_case(name))
    rounding = {'rtol': 1e-7, 'atol': 1e-7} if name == 'far from zero' else {'rtol': 1e-9, 'atol': 1e-9}
    assert one.keys() == two.keys() == whole.keys()
    for key, expected in whole.items():
        if key in ('y', 'grad'):
            found = torch.cat([one[key], two[key]])
        elif key.startswith('grad '):
            found = one[key] + two[key]
        else:
            assert torch.equal(one[key], two[key]), f'{key} differs between the processes'
            found = one[key]
        torch.testing.assert_close(found, expected, **rounding)


def test_process_without_rows_takes_part(shares: list[dict[str, Any]]) -> None:
    none, all_rows = (share['none here'] for share in shares)
    assert none['y'].shape == none['grad'].shape == (0, 2)
    torch.testing.assert_close(all_rows['y'], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), rtol=0, atol=1e-5)
    for found in (none, all_rows):
        torch.testing.assert_close(found['mean'], torch.tensor([0.3, 0.2]))  # a tenth of the means 3 and 2


def test_bfloat16_is_computed_in_float32(shares: list[dict[str, Any]]) -> None:
    parts = {key: torch.cat([share['bf16'][key] for share in shares]) for key in ('x', 'y', 'grad')}
    assert {part.dtype for part in parts.values()} == {torch.bfloat16}
    x = parts['x'].float().requires_grad_()
    y = nn.BatchNorm3d(2)(x)
    y.backward(parts['x'].float().abs())
    torch.testing.assert_close(parts['y'].float(), y.detach(), rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(parts['grad'].float(), x.grad, rtol=0, atol=2**-6)  # half a unit in the last place of 4


@pytest.mark.parametrize('name', ['1d', '2d', '3d', 'no momentum', 'no statistics', 'eval', 'network'])
def test_one_process_equals_plain_norms(name: str) -> None:
    plain = run_twice(*make_case(name))
    module, x, weight = make_case(name)
    synced = run_twice(convert_sync_batch_norm(module, CPU), x, weight)
    assert plain.keys() == synced.keys()
    assert all(torch.equal(synced[key], value) for key, value in plain.items())


def test_group_of_one_equals_plain_norms(tmp_path: Path) -> None:
    plain = run_twice(*make_case('3d'))
    module, x, weight = make_case('3d')
    dist.init_process_group('gloo', f'file://{tmp_path}/group', rank=0, world_size=1)
    synced = run_twice(convert_sync_batch_norm(module, CPU), x, weight)
    dist.destroy_process_group()
    assert all(torch.equal(synced[key], value) for key, value in plain.items())


def test_conversion_changes_the_class_only() -> None:
    model = network(partial_bn=True)
    before = dict(model.named_modules())
    tensors = {key: id(value) for key, value in model.state_dict(keep_vars=True).items()}
    flags = {name: (module.training, [p.requires_grad for p in module.parameters()]) for name, module in before.items()}
    assert convert_sync_batch_norm(model, CPU) is model
    assert dict(model.named_modules()) == before
    assert {key: id(value) for key, value in model.state_dict(keep_vars=True).items()} == tensors
    for name, module in model.named_modules():
        assert flags[name] == (module.training, [p.requires_grad for p in module.parameters()])
        assert type(module) not in CPU_CLASSES
    norms = [module for module in model.modules() if type(module) in CPU_CLASSES.values()]
    assert len(norms) == len([m for m in network().modules() if isinstance(m, _BatchNorm)])
    assert all(isinstance(norm, NORMS) for norm in norms)  # so that parameters.decay_norms applies to them
    model.eval()
    model.train()
    assert [flags[name][0] for name in before] == [module.training for module in model.modules()]


def test_conversion_ignores_norms_of_other_classes() -> None:
    class Other(nn.BatchNorm1d):
        pass

    model = nn.Sequential(Other(2), nn.GroupNorm(1, 2), nn.SyncBatchNorm(2))
    classes = [type(module) for module in model]
    assert [type(module) for module in convert_sync_batch_norm(model, CPU)] == classes
    assert type(convert_sync_batch_norm(nn.BatchNorm3d(2), CPU)) is SyncBatchNorm3d


def test_conversion_for_gpu_uses_torch_sync_batch_norm() -> None:
    made = nn.SyncBatchNorm(2, momentum=0.3)
    norm = convert_sync_batch_norm(nn.BatchNorm3d(2, momentum=0.3), torch.device('cuda', 0))
    assert type(norm) is nn.SyncBatchNorm
    assert norm.__dict__.keys() == made.__dict__.keys()
    assert norm.process_group is None
    assert norm.momentum == 0.3


def recognizer() -> nn.Module:
    """The model of the engine tests without dropout, in float64."""
    config = make_config(Path('nowhere'))
    torch.manual_seed(0)
    config['model']['cls_head']['dropout'] = 0.0
    model = build(config['model'], MODELS, 'model').double()
    model.data_preprocessor.register_forward_hook(lambda _module, _args, frames: frames.double())
    return model


def batch_gradients(kind: str) -> Outcome:
    """Return the gradients of a batch of eight videos, distributed over the processes."""
    model = recognizer()
    if kind == 'sync':
        convert_sync_batch_norm(model, CPU)
    else:
        model.eval()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(256, (8, 1, 2, 3, 2, 32, 32), dtype=torch.uint8, generator=generator)
    own = slice(distributed.rank(), None, distributed.world_size())
    wrapped = distributed.wrap_ddp(model, CPU)  # kept until the backward pass is over: it averages the gradients
    wrapped(inputs[own], torch.arange(8)[own])['loss'].backward()
    return {name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers())


def both_gradients() -> list[Outcome]:
    return [batch_gradients('sync'), batch_gradients('eval')]


@pytest.mark.sweep
def test_gradients_do_not_depend_on_world_size(tmp_path: Path) -> None:
    alone = both_gradients()
    for world_size in (2, 4):
        for outcomes in run_processes(world_size, tmp_path / str(world_size), both_gradients):
            for found, expected in zip(outcomes, alone, strict=True):
                assert found.keys() == expected.keys()
                for name in expected:
                    torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-10)
