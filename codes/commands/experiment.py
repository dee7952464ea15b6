"""Compare variants of a config: train and test each with several seeds, and write one table and one report.

EXPERIMENT is a TOML file, or the name of an included one such as experiments/mini_kinetics:

    config = 'custom/small_from_scratch'             # of all variants
    seeds = [0, 1, 2]
    cfg_options = ['data_root=data/my_videos']       # of all variants, as for --cfg-options

    [variants.I3D]                                   # the others are compared with the first variant
    cfg_options = ['model.module_cfg=None']

    [variants.DSANet]

A variant can also have a config of its own. --cfg-options are added to those of all variants. Each variant is trained
in a folder of OUT such as i3d_seed0, and the checkpoint of the last epoch is tested, also with the snippets in other
orders (not if videos have several labels, or if the network sees a single frame). If the command is repeated, finished
runs are kept and interrupted ones continue; a run of another config is not continued: this is an error. OUT/tables.md
has mean and standard deviation over the seeds, the accuracy per class, the order test, the costs, and McNemar's test
for each seed; OUT/report.html has the curves.

Example:
    dsanet experiment my_experiment.toml --jobs 2
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from dsanet.commands.arguments import add_config_options, num_processes

if TYPE_CHECKING:
    from dsanet.experiments.plan import Plan
    from dsanet.experiments.running import Resources

OUTPUTS = ('tables.md', 'report.html')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('experiment', type=Path, metavar='EXPERIMENT', help='TOML file, or the name of an included one')
    add('--out', type=Path, metavar='FOLDER', help='output folder (default: work_dirs/<name of the TOML file>)')
    add('--jobs', type=num_processes(1), default=1, metavar='N', help='trials at a time (default: 1)')
    add('--gpus', type=num_processes(1), default=1, metavar='N', help='GPUs, or CPU processes, per trial (default: 1)')
    add_config_options(parser)
    add('--tables-only', action='store_true', help='train nothing; write tables and report of the finished trials')


def run(args: argparse.Namespace) -> int:
    import torch

    from dsanet.config.shipped import find_plan
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.experiments.plan import read_plan
    from dsanet.experiments.running import Resources
    from dsanet.utils.distributed import check_device_count

    with exit_on_user_error():
        plan = read_plan(find_plan(args.experiment), args.cfg_options)
        jobs = min(args.jobs, len(plan.trials))
        if torch.cuda.is_available() and not args.tables_only:
            check_device_count(jobs * args.gpus, torch.cuda.device_count())
    out = args.out or Path('work_dirs') / args.experiment.stem
    resources = Resources(jobs, args.gpus, torch.cuda.is_available())
    return run_experiment(plan, out, None if args.tables_only else resources, args.imports)


def run_experiment(plan: 'Plan', out: Path, resources: 'Resources | None', imports: Sequence[str] = ()) -> int:
    """Run the trials of a plan that are not finished, write and print the tables, and return the exit status.

    Args:
        plan: the experiment.
        out: output folder.
        resources: what the trials may use; None to train nothing.
        imports: modules that register custom classes.
    """
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.engine.work_dir import hold_lock
    from dsanet.experiments.running import RESULTS, check_test_data, check_unchanged, load_configs, run_trials
    from dsanet.experiments.tables import format_tables, read_outcomes
    from dsanet.reports.page import build_page
    from dsanet.reports.run_data import add_internals
    from dsanet.utils.files import check_creatable, check_writable, write_atomically
    from dsanet.utils.signals import signals_exit

    tables_file, report = (out / name for name in OUTPUTS)
    with exit_on_user_error():
        configs = load_configs(plan, imports)
        check_writable(out, '--out')
        if resources:
            out.mkdir(parents=True, exist_ok=True)
            for name in OUTPUTS:
                check_creatable(out / name)
    setup_logging()
    # Tables can be written while another process runs trials: a file is replaced as a whole.
    lock = hold_lock(out, 'choose another --out') if resources else nullcontext()
    with lock as held, signals_exit(), exit_on_user_error():
        if held is not None:
            held.start_heartbeat()  # a process of another machine would take a silent lock for a stale one
        check_unchanged(configs, out)
        if resources:
            check_test_data(configs, out)
        failures = run_trials(configs, out, resources, imports) if resources else []
        failed = f'{len(failures)} of {len(plan.trials)} trials failed; see the messages above'
        if failures and not any((out / trial.folder / RESULTS).is_file() for trial in plan.trials):
            print(failed)
            return 1
        outcomes = read_outcomes(plan, out)
        tables = format_tables(plan, outcomes)
        write_atomically(tables.encode(), tables_file)
        print(f'\n{tables}\nTables: {tables_file}', flush=True)
        page = build_page(add_internals([outcome.run for outcome in outcomes], is_last_epoch=True))
        write_atomically(page.encode(), report)
    print(f'Report: {report}')
    if failures:
        print(failed)
    return 1 if failures else 0
