"""Train a classifier on features from dsanet features, and write a checkpoint that predicts like any other.

The checkpoint has the backbone that made the features, and a new head. One head per learning rate is trained, and the
best one on the validation data is kept, so its accuracy there is slightly optimistic. The features need labels: extract
them from lists with lines "path label", or from folders with one folder per class.

Example:
    dsanet features best.pth data/train.txt --out features/train --level snippet
    dsanet features best.pth data/val.txt --out features/val --level snippet
    dsanet probe features/train features/val --out work_dirs/probe --head attentive
    dsanet predict work_dirs/probe/probe.pth clip.mp4
"""

import argparse
import json
from pathlib import Path

from dsanet.commands.arguments import MAX_SEED, add_allow_pickle, float_between, int_between


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('train', type=Path, metavar='FEATURES_TRAIN', help='features of the training videos')
    add('val', type=Path, metavar='FEATURES_VAL', help='features of the validation videos')
    add('--out', type=Path, required=True, metavar='FOLDER', help='folder for probe.pth and probe.json')
    add('--head', choices=('linear', 'attentive'), default='linear', help='type of the head (default: linear)')
    add(
        '--lr',
        type=float_between(1e-9, 1e3),
        nargs='+',
        default=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
        metavar='LR',
        help='learning rates to try (default: 0.0001 0.0003 0.001 0.003 0.01)',
    )
    add('--epochs', type=int_between(1), default=50, metavar='N', help='passes through the data (default: 50)')
    add('--batch-size', type=int_between(1), default=256, metavar='N', help='videos per step (default: 256)')
    add('--seed', type=int_between(0, MAX_SEED), default=0, metavar='N', help='random seed (default: 0)')
    add('--class-file', metavar='FILE', help='class names, one per line (default: the class folders, or numbers)')
    add(
        '--checkpoint',
        type=Path,
        metavar='FILE',
        help='the checkpoint that made the features (default: its path at that time)',
    )
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the first GPU, or else the CPU)")
    add_allow_pickle(parser, 'the checkpoint')


def run(args: argparse.Namespace) -> None:
    from dsanet.datasets.annotation import read_class_names
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.inference.features.probe import ProbeOptions, load_backbone, load_features, save_probe, train_probe
    from dsanet.inference.recognizer import find_device
    from dsanet.utils.files import check_outputs, check_writable, write_atomically

    with exit_on_user_error():
        check_writable(args.out, '--out')
        options = ProbeOptions(args.head, args.lr, args.epochs, args.batch_size, seed=args.seed)
        device = find_device(args.device)
        names = None if args.class_file is None else read_class_names(args.class_file)
        train = load_features(args.train, names)
        names = train.class_names or names
        val = load_features(args.val, names)
        num_classes = int(train.labels.max()) + 1 if names is None else len(names)
        outputs = {'--out': args.out / 'probe.pth', 'the table': args.out / 'probe.json'}
        check_outputs(outputs, [args.checkpoint or train.recipe['checkpoint'], args.class_file])
        # Before the training, because it may fail.
        backbone = load_backbone(train.recipe, args.checkpoint, args.allow_pickle)
        print(f'{len(train.labels)} training and {len(val.labels)} validation videos, {num_classes} classes')
        candidates = train_probe(train, val, num_classes, options, device)
        table = [
            {'lr': one.lr, 'train_loss': one.train_loss, 'val_loss': one.val_loss, 'top1': one.top1}
            for one in candidates
        ]
        file = args.out / 'probe.pth'
        save_probe(candidates[0].head, options, backbone, names, file)
        content = {'head': args.head, 'epochs': args.epochs, 'features': str(args.train), 'results': table}
        write_atomically(json.dumps(content, indent=2).encode() + b'\n', args.out / 'probe.json')
    print(f'{"lr":>8}  {"train loss":>10}  {"val loss":>8}  {"val top1":>8}')
    for row in sorted(table, key=lambda row: row['lr']):
        best = '  best' if row is table[0] else ''
        print(f'{row["lr"]:8g}  {row["train_loss"]:10.4g}  {row["val_loss"]:8.4g}  {row["top1"]:8.2f}{best}')
    print(f'Checkpoint written to {file}')
