from pathlib import Path

import pytest

from dsanet import commands
from dsanet.commands import experiment
from dsanet.experiments.plan import Plan
from dsanet.experiments.running import Resources


@pytest.mark.parametrize(
    ('arguments', 'variants', 'seeds'),
    [
        ([], ['I3D', 'DSANet'], (0,)),
        (['--seeds', '2', '1', '2'], ['I3D', 'DSANet'], (2, 1)),
        (['--all'], ['I3D', 'DSANet', 'V4D', 'TRN', 'TSM', 'DSANet on TSM'], (0,)),
    ],
)
def test_demo_is_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variants: list[str], seeds: tuple[int, ...]
) -> None:
    seen = []

    def run_experiment(plan: Plan, out: Path, resources: Resources) -> int:
        seen.append((plan, out, resources.jobs))
        for trial in plan.trials[1:]:
            (out / trial.folder).mkdir(parents=True)
            (out / trial.folder / 'scalars.jsonl').write_text('{"iteration": 1, "train/loss": 2.0, "val/top1": 50.0}')
        return 3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, 'run_experiment', run_experiment)
    monkeypatch.setattr('dsanet.commands.make_demo_videos.run', lambda args: 0)
    assert commands.main(['demo', *arguments]) == 3
    plan, out, jobs = seen[0]
    assert ([one.name for one in plan.variants], plan.seeds, str(out), jobs) == (variants, seeds, 'work_dirs/demo', 1)
    assert (tmp_path / 'work_dirs' / 'demo' / 'curves.png').is_file()
