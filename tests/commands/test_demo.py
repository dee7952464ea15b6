import json
from pathlib import Path

import pytest

from dsanet.commands import demo
from tests.commands.conftest import ROOT


def test_demo_tests_the_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def fake_run_command(*arguments: object) -> float:
        commands.append(' '.join(map(str, arguments)).replace(str(tmp_path), 'OUT'))
        work_dir = tmp_path / 'dsanet_ordered_actions_seed1'
        work_dir.mkdir(exist_ok=True)
        for name in ('epoch_9.pth', 'epoch_10.pth', 'best.pth'):
            (work_dir / name).touch()
        rows = [
            {'path': '', 'label': 1, 'scores': scores} for scores in ([0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4])
        ]
        times = [{'train/time': t} for t in (0.9, 0.05, 0.06)] + [{'val/top1': 75.0}]
        (work_dir / 'scalars.jsonl').write_text('\n'.join(map(json.dumps, times)))
        (work_dir / 'scores.json').write_text(json.dumps(rows))
        return 12.3

    monkeypatch.setattr(demo, 'run_command', fake_run_command)
    result = demo.train_and_test('DSANet', seed=1, out=tmp_path)
    config, work_dir = 'demo/dsanet_ordered_actions', 'OUT/dsanet_ordered_actions_seed1'
    assert commands == [
        f'train {config} --gpus 1 --work-dir {work_dir} --seed 1',
        f'test {config} {work_dir}/epoch_10.pth --gpus 1 --out {work_dir}/scores.json',
    ]
    assert result.top1 == 75.0
    assert demo.table([result]).splitlines()[1].split() == ['DSANet', '1', '347,568', '77.01', '60', '12', '75.0']


def test_demo_models_have_a_config() -> None:
    for name in demo.MODELS.values():
        assert (ROOT / 'configs' / 'demo' / f'{name}.py').is_file()
    assert set(demo.PAIR) < set(demo.MODELS)
