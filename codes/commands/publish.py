"""Write a trained model to a folder to share it: weights, config.json and a model card.

The folder can be used as local-dir:FOLDER. --push uploads it to the Hugging Face Hub, where it can be used as
hf-hub:USER/NAME; without this option, nothing leaves this machine. Optimizer state and absolute paths are left out.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    add_allow_pickle,
    add_config_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help=f'checkpoint to publish: {MODEL_SOURCES}')
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='folder to write; must be new or empty')
    parser.add_argument('--config', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    parser.add_argument(
        '--license',
        default='unknown',
        metavar='ID',
        help='license in the model card, such as apache-2.0 or cc-by-nc-4.0 (default: unknown)',
    )
    parser.add_argument(
        '--push', metavar='USER/NAME', help='upload the folder to this repository of the Hugging Face Hub'
    )
    add_config_options(parser)
    add_allow_pickle(parser, 'CHECKPOINT')


def run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.inference.sharing.hub import check_login, check_repo, upload_folder
    from dsanet.inference.sharing.publishing import check_new_folder, publish

    with exit_on_user_error():
        setup_logging()
        if args.push is not None:
            check_repo(args.push, '--push')
            check_new_folder(args.folder)
            check_login()
        num_tensors = publish(
            args.checkpoint,
            args.folder,
            args.config,
            args.cfg_options,
            args.imports,
            args.allow_pickle,
            args.license,
            args.push,
        )
        print(f'{args.folder}: {num_tensors} tensors; use it as local-dir:{args.folder}')
        if args.push is not None:
            url = upload_folder(args.folder, args.push)
            print(f'Uploaded to {url}; use it as hf-hub:{args.push}')
