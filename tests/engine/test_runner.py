import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from codes.config import Config
from codes.engine.checkpoint import read_checkpoint, save_atomically
from codes.engine.logging import read_scalars
from codes.engine.optim import set_learning_rate
from codes.engine.runner import Meter, Runner, seed_iteration
from tests.engine.conftest import make_config

DEVICE = torch.device('cpu')


def train(config: Config, work_dir: Path, **options: str) -> Runner:
    work_dir.mkdir(exist_ok=True)
    runner = Runner(config, work_dir, DEVICE)
    runner.start(**options)
    runner.train()
    return runner


def assert_same_run(one: dict, two: dict) -> None:
    for part in ('state_dict', 'optimizer'):
        left, right = (torch.utils._pytree.tree_leaves(c[part]) for c in (one, two))
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert one['best'] == two['best']


@pytest.fixture(scope='module')
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of four undisturbed epochs."""
    work_dir = tmp_path_factory.mktemp('straight')
    train(make_config(data), work_dir)
    return work_dir


@pytest.mark.parametrize('num_workers', [0, 2])
def test_stopped_and_resumed_run_ends_in_the_same_bits(
    data: Path, straight: Path, tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data, num_workers)
    original = Runner._train_epoch

    def stop_before_epoch_3(self: Runner, *args: object) -> None:
        if self.epoch == 2:
            raise KeyboardInterrupt
        original(self, *args)

    monkeypatch.setattr(Runner, '_train_epoch', stop_before_epoch_3)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path)
    monkeypatch.undo()
    torch.manual_seed(12345)  # what other code did to the global generator must not matter
    train(config, tmp_path, resume='auto')
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'epoch_4.pth'))
    drop = ('data_time', 'time', 'memory')
    lines = [
        [{k: v for k, v in line.items() if k.split('/')[-1] not in drop} for line in read_scalars(d / 'scalars.jsonl')]
        for d in (straight, tmp_path)
    ]
    assert lines[0] == lines[1]


def test_resume_from_a_checkpoint_without_validation_makes_up_for_it(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    content = read_checkpoint(straight / 'epoch_3.pth')
    save_atomically({**content, 'validated': False}, tmp_path / 'epoch_3.pth')
    runner = train(make_config(data), tmp_path, resume=str(tmp_path / 'epoch_3.pth'))
    epochs = [line['epoch'] for line in read_scalars(tmp_path / 'scalars.jsonl') if 'val/top1' in line]
    assert epochs == [3, 4]
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), runner._content())


def test_other_seed_gives_another_run(data: Path, straight: Path, tmp_path: Path) -> None:
    runner = train(make_config(data, runtime={'seed': 1}, train_cfg={'max_epochs': 1}), tmp_path)
    first = read_scalars(straight / 'scalars.jsonl')[0]['train/loss']
    assert read_scalars(tmp_path / 'scalars.jsonl')[0]['train/loss'] != first
    assert runner.epoch == 1


def test_work_dir_holds_the_last_and_the_best_checkpoint(straight: Path) -> None:
    assert sorted(f.name for f in straight.glob('*.pth')) == ['best.pth', 'epoch_3.pth', 'epoch_4.pth']
    lines = [line for line in read_scalars(straight / 'scalars.jsonl') if 'val/top1' in line]
    assert [line['epoch'] for line in lines] == [1, 2, 3, 4]
    best = read_checkpoint(straight / 'best.pth')
    top = max(line['val/top1'] for line in lines)
    assert best['best']['top1'] == top
    assert best['epoch'] == next(line['epoch'] for line in lines if line['val/top1'] == top)


def test_keep_checkpoints_and_validation_interval_are_honoured(data: Path, tmp_path: Path) -> None:
    config = make_config(data, train_cfg={'max_epochs': 3, 'val_interval': 2}, runtime={'keep_checkpoints': 1})
    train(config, tmp_path)
    assert sorted(f.name for f in tmp_path.glob('epoch*')) == ['epoch_3.pth']
    assert [x['epoch'] for x in read_scalars(tmp_path / 'scalars.jsonl') if 'val/top1' in x] == [2, 3]


def test_log_has_the_schedules_rate_and_every_scalar(straight: Path) -> None:
    lines = [line for line in read_scalars(straight / 'scalars.jsonl') if 'train/loss' in line]
    assert [line['iteration'] for line in lines] == list(range(1, 9))  # 8 videos in batches of 4, 4 epochs
    cosine = [0.5 * (1 + np.cos(np.pi * (i / 2 - 1) / 3)) for i in range(2, 8)]
    rates = [0.01, 0.505, *cosine]
    assert [line['train/lr'] for line in lines] == pytest.approx([0.05 * rate for rate in rates])
    for name in ('loss', 'top1', 'grad_norm', 'data_time', 'time', 'memory'):
        assert all(np.isfinite(line[f'train/{name}']) for line in lines)


def test_training_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    changes = {'train_cfg': {'max_epochs': 40}, 'optimizer': {'lr': 0.1}, 'schedule': {'warmup_epochs': 4}}
    config = make_config(data, **changes)
    config['train_dataloader']['dataset']['pipeline'][3:6] = [{'type': 'CenterCrop', 'size': 32}]
    config['model']['cls_head']['dropout'] = 0.0
    config.pop('val_dataloader')
    train(config, tmp_path)
    losses = [line['train/loss'] for line in read_scalars(tmp_path / 'scalars.jsonl')]
    assert np.mean(losses[-10:]) < 0.25 * np.mean(losses[:2])


@pytest.fixture
def onednn() -> Iterator[None]:
    """Switch oneDNN on again behind a test whose run switched it off."""
    yield
    torch.backends.mkldnn.set_flags(True)


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision_trains_and_stays_close_to_float32(
    data: Path, straight: Path, tmp_path: Path, amp: str, onednn: None
) -> None:
    config = make_config(data, runtime={'amp': amp}, train_cfg={'max_epochs': 1})
    runner = train(config, tmp_path)
    for name in ('train/loss', 'train/grad_norm'):
        exact, mixed = (read_scalars(d / 'scalars.jsonl')[0][name] for d in (straight, tmp_path))
        assert exact != mixed
        assert exact == pytest.approx(mixed, rel=0.05)
    assert all(p.dtype == torch.float32 for p in runner.model.parameters())


def test_gradients_are_clipped_to_the_limit(data: Path, tmp_path: Path) -> None:
    runner = Runner(make_config(data, train_cfg={'clip_grad_norm': 0.01}), tmp_path, DEVICE)
    batch = next(iter(runner.train_loader))
    scalars = runner._step(runner.model, batch)
    norm = torch.stack([p.grad.norm() for p in runner.model.parameters()]).norm()
    assert scalars['grad_norm'] > 0.01
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_adamw_by_name(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['optimizer'] = {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.05}
    assert isinstance(Runner(config, tmp_path, DEVICE).optimizer, torch.optim.AdamW)


def test_load_from_starts_from_weights_and_not_from_the_run(data: Path, straight: Path, tmp_path: Path) -> None:
    config = make_config(data, optimizer={'lr': 0.0, 'weight_decay': 0.0}, train_cfg={'max_epochs': 1})
    runner = train(config, tmp_path, load_from=str(straight / 'epoch_4.pth'))
    assert runner.epoch == 1
    expected = read_checkpoint(straight / 'epoch_4.pth')['state_dict']['backbone.conv1.weight']
    assert torch.equal(runner.model.backbone.conv1.weight, expected)


def test_resume_auto_without_a_checkpoint_starts_and_says_so(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, 'codes'):
        Runner(make_config(data), tmp_path, DEVICE).resume('auto')
    assert 'no checkpoint to resume from' in caplog.text


def test_resume_of_weights_alone_and_of_another_model_are_refused(data: Path, straight: Path, tmp_path: Path) -> None:
    runner = Runner(make_config(data, model={'module_cfg': None}), tmp_path, DEVICE)
    with pytest.raises(ValueError, match='is of another model or optimiser'):
        runner.resume(str(straight / 'epoch_4.pth'))
    save_atomically({'state_dict': runner.model.state_dict()}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='not a run to resume; use --load-from'):
        runner.resume(str(tmp_path / 'weights.pth'))


def test_resume_with_another_seed_warns_that_it_is_not_exact(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(make_config(data, runtime={'seed': 7}), tmp_path, DEVICE)
    with caplog.at_level(logging.WARNING, 'codes'):
        runner.resume(str(straight / 'epoch_4.pth'))
    assert 'runtime.seed was None and is 7: the run goes on, but not exactly' in caplog.text


def test_present_options_count_on_resume_and_the_change_is_named(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(make_config(data, optimizer={'lr': 3.0, 'weight_decay': 0.5}), tmp_path, DEVICE)
    with caplog.at_level(logging.WARNING, 'codes'):
        runner.resume(str(straight / 'epoch_4.pth'))
    assert set_learning_rate(runner.optimizer, 0.5) == 1.5
    assert runner.optimizer.param_groups[0]['weight_decay'] == 0.5
    assert caplog.messages == [
        'optimizer.lr was 0.05 and is 3.0: the run goes on, but not exactly',
        'optimizer.weight_decay was 0.0001 and is 0.5: the run goes on, but not exactly',
    ]


def test_resuming_the_same_config_warns_of_nothing(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, 'codes'):
        Runner(make_config(data), tmp_path, DEVICE).resume(str(straight / 'epoch_4.pth'))
    assert not caplog.messages


def test_fresh_or_rewound_run_does_not_mix_with_a_further_one(data: Path, straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / 'used')
    runner = Runner(make_config(data), tmp_path / 'used', DEVICE)
    with pytest.raises(ValueError, match='holds epoch_4.pth, epoch_3.pth of a run that is further than this one'):
        runner.start()
    with pytest.raises(ValueError, match='holds epoch_4.pth of a run'):
        runner.start(resume=str(tmp_path / 'used' / 'epoch_3.pth'))
    assert len(read_scalars(tmp_path / 'used' / 'scalars.jsonl')) == len(read_scalars(straight / 'scalars.jsonl'))


@pytest.mark.parametrize('then', ['no validation', 'fp16'])
def test_resume_copes_with_other_validation_and_precision(
    data: Path, straight: Path, tmp_path: Path, then: str
) -> None:
    content = read_checkpoint(straight / 'epoch_3.pth')
    save_atomically({**content, 'validated': False}, tmp_path / 'epoch_3.pth')
    config = make_config(data, runtime={'amp': 'fp16'} if then == 'fp16' else {})
    if then == 'no validation':
        config.pop('val_dataloader')
    assert train(config, tmp_path, resume='auto').epoch == 4


def test_exploding_training_stops_and_says_where(data: Path, tmp_path: Path) -> None:
    config = make_config(
        data, optimizer={'lr': 1e30}, schedule={'warmup_epochs': 0}, train_cfg={'clip_grad_norm': None}
    )
    with pytest.raises(RuntimeError, match=r'the loss became (nan|inf) at iteration \d+ or a little before'):
        train(config, tmp_path)


def test_config_and_data_must_fit_the_model(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['model']['cls_head']['num_classes'] = 5
    with pytest.raises(ValueError, match=r'train.txt:\d+: label \d of .* is too large: num_classes=5'):
        Runner(config, tmp_path, DEVICE)
    with pytest.raises(ValueError, match="save_best='top2' must be one of top1, top5"):
        Runner(make_config(data, runtime={'save_best': 'top2'}), tmp_path, DEVICE)
    config = make_config(data)
    config.pop('optimizer')
    with pytest.raises(KeyError, match='the config has no optimizer, which training needs'):
        Runner(config, tmp_path, DEVICE)


def test_data_and_dsa_must_agree_on_the_number_of_snippets(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['train_dataloader']['dataset']['pipeline'][1]['num_snippets'] = 4
    with pytest.raises(
        ValueError, match=r'data have num_snippets=4 .* DSA in backbone.layer2.0.dsa has num_snippets=2'
    ):
        train(config, tmp_path)


def test_checkpoint_holds_only_tensors_and_plain_types(straight: Path) -> None:
    content = read_checkpoint(straight / 'epoch_4.pth')  # weights_only=True would refuse anything else
    assert content['epoch'] == 4
    assert content['config']['model']['type'] == 'Recognizer3D'
    assert content['class_names'] is None


def test_iterations_and_processes_have_seeds_of_their_own() -> None:
    draws = set()
    for seed, iteration, rank in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
        seed_iteration(seed, iteration, rank)
        draws.add(torch.rand(1).item())
    assert len(draws) == 4
    seed_iteration(1, 0, 0)
    assert torch.rand(1).item() in draws


def test_meter_gives_means_and_starts_anew() -> None:
    meter = Meter()
    meter.add({'loss': torch.tensor(1.0), 'time': 2.0})
    meter.add({'loss': torch.tensor(3.0), 'time': 4.0})
    assert meter.flush() == {'loss': 2.0, 'time': 3.0}
    meter.add({'loss': torch.tensor(5.0)})
    assert meter.flush() == {'loss': 5.0}


@pytest.mark.needs_gpu
def test_training_on_a_gpu_is_reproducible_in_deterministic_mode(data: Path, tmp_path: Path) -> None:
    config = make_config(data, runtime={'deterministic': True}, train_cfg={'max_epochs': 1})
    states = []
    for name in 'ab':
        (tmp_path / name).mkdir()
        runner = Runner(config, tmp_path / name, torch.device('cuda', 0))
        runner.start()
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
