import argparse
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from codes.config import Config
from codes.engine import distributed
from codes.engine.checkpoint import read_checkpoint, save_atomically
from codes.engine.evaluation import predict
from codes.engine.logging import read_scalars
from codes.engine.optim import set_learning_rate
from codes.engine.runner import Meter, Runner, seed_iteration
from codes.evaluation.metrics import MeanAveragePrecision
from codes.models.recognizers.recognizer3d import Recognizer3D
from tests.engine.conftest import make_config

DEVICE = torch.device('cpu')


def train(config: Config, work_dir: Path, **options: str) -> Runner:
    work_dir.mkdir(exist_ok=True)
    runner = Runner(config, work_dir, DEVICE)
    runner.start(**options)
    runner.train()
    return runner


def assert_same_run(one: dict, two: dict) -> None:
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        left, right = (torch.utils._pytree.tree_leaves(c.get(part, {})) for c in (one, two))
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


def train_with_a_stop(config: Config, work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, stop before the third epoch, and resume."""
    original = Runner._train_epoch

    def stop_before_epoch_3(self: Runner, *args: object) -> None:
        if self.epoch == 2:
            raise KeyboardInterrupt
        original(self, *args)

    monkeypatch.setattr(Runner, '_train_epoch', stop_before_epoch_3)
    with pytest.raises(KeyboardInterrupt):
        train(config, work_dir)
    monkeypatch.undo()
    torch.manual_seed(12345)  # what other code did to the global generator must not matter
    train(config, work_dir, resume='auto')


@pytest.mark.parametrize('num_workers', [0, 2])
def test_stopped_and_resumed_run_ends_in_the_same_bits(
    data: Path, straight: Path, tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_with_a_stop(make_config(data, num_workers), tmp_path, monkeypatch)
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'epoch_4.pth'))
    drop = ('data_time', 'time', 'memory')
    lines = [
        [{k: v for k, v in line.items() if k.split('/')[-1] not in drop} for line in read_scalars(d / 'scalars.jsonl')]
        for d in (straight, tmp_path)
    ]
    assert lines[0] == lines[1]


EMA = {'max_epochs': 4, 'clip_grad_norm': 5, 'ema_decay': 0.9}


@pytest.fixture(scope='module')
def averaged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of the same four epochs with averaged weights."""
    work_dir = tmp_path_factory.mktemp('averaged')
    train(make_config(data, train_cfg=EMA), work_dir)
    return work_dir


def test_stopped_and_resumed_average_ends_in_the_same_bits(
    data: Path, averaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_with_a_stop(make_config(data, train_cfg=EMA), tmp_path, monkeypatch)
    for name in ('epoch_4.pth', 'best.pth'):
        one, two = (read_checkpoint(folder / name) for folder in (averaged, tmp_path))
        assert_same_run(one, two)
        assert one['ema_updates'] == two['ema_updates'] == 2 * one['epoch']  # two iterations an epoch


def test_averaging_leaves_the_training_alone(straight: Path, averaged: Path) -> None:
    one, two = (read_checkpoint(folder / 'epoch_4.pth') for folder in (straight, averaged))
    assert 'ema_state_dict' not in one
    assert two['ema_state_dict'].keys() == two['state_dict'].keys()
    assert all(torch.equal(one['state_dict'][key], value) for key, value in two['state_dict'].items())
    weight = 'backbone.layer1.0.conv1.weight'
    assert not torch.equal(two['ema_state_dict'][weight], two['state_dict'][weight])


def test_average_follows_the_steps_of_a_run(data: Path, tmp_path: Path) -> None:
    runner = Runner(make_config(data, train_cfg=EMA), tmp_path, DEVICE)
    batch = next(iter(runner.train_loader))
    set_learning_rate(runner.optimizer, 1)
    names = ('cls_head.fc_cls.weight', 'backbone.bn1.running_mean')
    seen = []
    for _ in range(3):
        runner._step(runner.model, batch)
        seen.append([runner.model.state_dict()[name].clone() for name in names])
    for i, name in enumerate(names):
        first, second, third = (values[i] for values in seen)
        two = first * 2 / 11 + second * 9 / 11
        assert torch.allclose(runner.average.model.state_dict()[name], two * 0.25 + third * 0.75, atol=1e-7)


def test_validation_uses_the_averaged_weights_and_says_so(
    data: Path, averaged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(make_config(data), tmp_path, DEVICE)
    content = read_checkpoint(averaged / 'epoch_4.pth')
    losses = {}
    for name in ('ema_state_dict', 'state_dict'):
        runner.model.load_state_dict(content[name])
        predictions = predict(runner.model, runner.val_loader, DEVICE)
        scores, labels = map(torch.from_numpy, (predictions.scores, predictions.labels))
        losses[name] = torch.nn.functional.cross_entropy(scores, labels).item()
    logged = [line['val/loss'] for line in read_scalars(averaged / 'scalars.jsonl') if 'val/loss' in line][-1]
    assert logged == pytest.approx(losses['ema_state_dict'], rel=1e-6)
    assert logged != pytest.approx(losses['state_dict'], rel=1e-4)
    save_atomically({**content, 'validated': False}, tmp_path / 'epoch_4.pth')
    with caplog.at_level(logging.INFO, 'codes'):
        train(make_config(data, train_cfg=EMA), tmp_path, resume='auto')
    assert re.search(r'epoch 4  val/top1 .*  \(averaged weights\)', caplog.text)


def test_step_that_fp16_leaves_out_does_not_move_the_average(data: Path, tmp_path: Path) -> None:
    runner = Runner(make_config(data, runtime={'amp': 'fp16'}, train_cfg=EMA), tmp_path, DEVICE)
    batch = next(iter(runner.train_loader))
    set_learning_rate(runner.optimizer, 1)
    runner._step(runner.model, batch)
    assert runner.average.num_updates == 1
    before = [p.clone() for p in runner.average.model.state_dict().values()]
    runner.scaler = torch.amp.GradScaler('cpu', init_scale=1e38)
    runner._step(runner.model, batch)
    assert runner.scaler.get_scale() < 1e38
    assert runner.average.num_updates == 1
    assert all(torch.equal(a, b) for a, b in zip(before, runner.average.model.state_dict().values(), strict=True))


def test_average_begins_with_the_weights_that_the_run_starts_from(data: Path, straight: Path, tmp_path: Path) -> None:
    runner = Runner(make_config(data, train_cfg=EMA), tmp_path, DEVICE)
    runner.start(load_from=str(straight / 'epoch_4.pth'))
    expected = read_checkpoint(straight / 'epoch_4.pth')['state_dict']['backbone.conv1.weight']
    assert torch.equal(runner.average.model.backbone.conv1.weight, expected)
    assert runner.average.num_updates == 0


def test_processes_get_the_same_statistics_of_model_and_average(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(make_config(data, train_cfg={**EMA, 'max_epochs': 1}), tmp_path, DEVICE)
    given = []
    monkeypatch.setattr(distributed, 'broadcast_buffers', lambda model: given.append((model, runner.epoch)))
    runner.start()
    runner.train()
    assert given == [(runner.model, 0), (runner.average.model, 0)]


@pytest.mark.parametrize('ema_decay', [None, 0.5])
def test_averaging_may_begin_or_end_on_resume(
    data: Path,
    straight: Path,
    averaged: Path,
    tmp_path: Path,
    ema_decay: float | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = averaged if ema_decay is None else straight
    shutil.copy(source / 'epoch_3.pth', tmp_path)
    with caplog.at_level(logging.WARNING, 'codes'):
        runner = train(make_config(data, train_cfg={**EMA, 'ema_decay': ema_decay}), tmp_path, resume='auto')
    content = read_checkpoint(tmp_path / 'epoch_4.pth')
    was = 0.9 if ema_decay is None else None
    assert caplog.messages == [f'train_cfg.ema_decay was {was} and is {ema_decay}: the run goes on, but not exactly']
    assert content.get('ema_updates') == (None if ema_decay is None else 2)
    assert runner.epoch == 4


def test_parameters_have_the_rates_and_decay_that_the_config_says(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {'lr_multipliers': {'cls_head': 5, '.dsa.': 2}, 'bias_lr_multiplier': 2, 'decay_norms': False}
    config = make_config(data)
    config['parameters'] = parameters
    runner = train(config, tmp_path)
    # Four epochs of cosine: the last iteration is at 3.5 epochs, of which one was warm-up.
    factor = 0.5 * (1 + np.cos(np.pi * 2.5 / 3))
    names = {id(p): name for name, p in runner.model.named_parameters()}
    options = {names[id(p)]: group for group in runner.optimizer.param_groups for p in group['params']}
    assert options.keys() == {name for name, _ in runner.model.named_parameters()}
    for name, multiplier, decay in [
        ('backbone.conv1.weight', 1, 1e-4),
        ('backbone.bn1.weight', 1, 0),
        ('cls_head.fc_cls.weight', 5, 1e-4),
        ('cls_head.fc_cls.bias', 10, 1e-4),
    ]:
        assert options[name]['lr'] == pytest.approx(0.05 * multiplier * factor)
        assert options[name]['weight_decay'] == decay
    assert {options[name]['base_lr'] for name in options if '.dsa.' in name} <= {0.1, 0.2}
    assert read_scalars(tmp_path / 'scalars.jsonl')[-2]['train/lr'] == pytest.approx(0.05 * factor)
    (tmp_path / 'again').mkdir()
    train_with_a_stop(config, tmp_path / 'again', monkeypatch)
    assert_same_run(*(read_checkpoint(folder / 'epoch_4.pth') for folder in (tmp_path, tmp_path / 'again')))


def test_change_of_the_groups_is_named_and_momentum_stays_with_its_parameter(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(data)
    config['parameters'] = {'bias_lr_multiplier': 2.0, 'decay_norms': False}
    runner = Runner(config, tmp_path, DEVICE)
    with caplog.at_level(logging.WARNING, 'codes'):
        runner.resume(str(straight / 'epoch_4.pth'))
    assert caplog.messages == [
        'parameters.bias_lr_multiplier was None and is 2.0: the run goes on, but not exactly',
        'parameters.decay_norms was None and is False: the run goes on, but not exactly',
    ]
    saved = read_checkpoint(straight / 'epoch_4.pth')['optimizer']['state']
    assert len(runner.optimizer.param_groups) == 3
    for i, parameter in enumerate(runner.model.parameters()):
        assert torch.equal(runner.optimizer.state[parameter]['momentum_buffer'], saved[i]['momentum_buffer'])


def test_frozen_parameters_are_not_trained(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['model']['backbone']['frozen_stages'] = 1
    config['parameters'] = {'lr_multipliers': {'layer1': 2.0}}
    with pytest.raises(KeyError, match="has 'layer1', which is in the name of no trainable parameter"):
        Runner(config, tmp_path, DEVICE)
    config.pop('parameters')
    runner = Runner(config, tmp_path, DEVICE)
    trained = {id(p) for group in runner.optimizer.param_groups for p in group['params']}
    assert not any(id(p) in trained for p in runner.model.backbone.layer1.parameters())
    assert all(id(p) in trained for p in runner.model.backbone.layer2.parameters())


@pytest.mark.parametrize('average_views', ['score', 'prob'])
def test_videos_may_have_several_labels(
    data: Path, tmp_path: Path, average_views: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Recognizer3D.forward

    def with_loss_alone(self: Recognizer3D, inputs: torch.Tensor, label: torch.Tensor | None = None) -> object:
        scores = original(self, inputs)
        return scores if label is None else {'loss': torch.nn.functional.cross_entropy(scores, label)}

    monkeypatch.setattr(Recognizer3D, 'forward', with_loss_alone)
    config = make_config(
        data, model={'average_views': average_views}, train_cfg={'max_epochs': 1}, runtime={'save_best': 'mAP'}
    )
    config['metrics'] = [{'type': 'MeanAveragePrecision'}]
    for name in ('train', 'val'):
        lines = (data / f'{name}.txt').read_text().splitlines()
        pairs = [f'{line},{(int(line.split()[-1]) + 1) % 8}' for line in lines]
        (tmp_path / f'{name}.txt').write_text('\n'.join(pairs))
        dataset = config[f'{name}_dataloader']['dataset']
        dataset['list_file'], dataset['multi_hot'] = str(tmp_path / f'{name}.txt'), 8
    runner = Runner(config, tmp_path, DEVICE)
    runner.start()
    best = runner.train()
    predictions = predict(runner.model, runner.val_loader, DEVICE)
    assert (predictions.labels.shape, predictions.labels.dtype) == ((7, 8), np.float32)
    assert (predictions.labels.sum(axis=1) == 2).all()
    assert best['mAP'] == MeanAveragePrecision()(predictions.scores, predictions.labels)['mAP']
    logged = read_scalars(tmp_path / 'scalars.jsonl')
    assert not any('train/top1' in line for line in logged)
    assert ('val/loss' in logged[-1]) == (average_views == 'score')
    if average_views == 'score':
        scores, labels = map(torch.from_numpy, (predictions.scores, predictions.labels))
        expected = -(labels * scores.log_softmax(dim=1)).sum(dim=1).mean().item()
        assert logged[-1]['val/loss'] == pytest.approx(expected)


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


def test_weights_that_need_code_start_a_run_only_if_that_is_allowed(data: Path, straight: Path, tmp_path: Path) -> None:
    config = make_config(data, train_cfg={'max_epochs': 1})
    state = read_checkpoint(straight / 'epoch_4.pth')['state_dict']
    torch.save({'state_dict': state, 'options': argparse.Namespace(lr=0.1)}, tmp_path / 'old.pth')
    (tmp_path / 'run').mkdir()
    runner = Runner(config, tmp_path / 'run', DEVICE)
    with pytest.raises(ValueError, match='it holds argparse.Namespace, and reading that runs code'):
        runner.start(load_from=str(tmp_path / 'old.pth'))
    runner.start(load_from=str(tmp_path / 'old.pth'), allow_pickle=True)
    assert torch.equal(runner.model.backbone.conv1.weight.cpu(), state['backbone.conv1.weight'])


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
