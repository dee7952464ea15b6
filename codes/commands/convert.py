"""Turn a checkpoint of any layout that we know into one of ours: plain weights under our keys, read without any code.

Training and testing take all those layouts as they are; this is for files that need code to be read, for keeping, and
for handing on.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import add_allow_pickle, add_config_options, check_config_is_given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', type=Path, help='a checkpoint of another project, or of ours')
    parser.add_argument('target', type=Path, help='the new file; must not exist yet')
    parser.add_argument(
        '--config',
        metavar='CONFIG',
        help='a config whose model the weights are for: says what fits it, and decides where a network exists here '
        'twice, as R(2+1)D does (R2Plus1D; without a config TorchvisionVideo)',
    )
    add_config_options(parser)
    add_allow_pickle(parser, 'the source')


def run(args: argparse.Namespace) -> None:
    check_config_is_given(args)
    from dsanet.engine.logging import plain_errors, setup_logging

    setup_logging(None, is_main=True)
    with plain_errors():
        _convert(args)


def _convert(args: argparse.Namespace) -> None:
    """Convert a file and print what was done.

    Raises:
        FileNotFoundError, KeyError, ValueError: as ``read_weights``, ``load_config`` and ``fit``; the layout is not
            known, or the new file exists or has no folder.
    """
    import torch

    from dsanet.config.registry import MODELS, build
    from dsanet.inference.loading import config_for_checkpoint
    from dsanet.models.weights.layouts import BACKBONE, HEAD, LAYOUTS, UNKNOWN
    from dsanet.models.weights.loading import match_state_dict, read_weights
    from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically

    if args.target.exists():
        raise ValueError(f'{args.target} exists already')
    if not args.target.absolute().parent.is_dir():
        raise FileNotFoundError(f'there is no folder {args.target.absolute().parent}')
    source = read_checkpoint(args.source, args.allow_pickle)
    model = None
    if args.config is not None:
        config = config_for_checkpoint(args.source, source, args.config, args.cfg_options, args.imports)
        with torch.device('meta'):
            model = build(config['model'], MODELS, 'model').state_dict()
    weights = read_weights(args.source, model.keys() if model is not None else frozenset(), content=source)
    if weights.layout is UNKNOWN:
        known = ', '.join(layout.name for layout in LAYOUTS)
        raise ValueError(
            f'{args.source} has none of the layouts that we know ({known}); '
            f'its keys begin with {", ".join(list(weights.state)[:3])}'
        )
    # A slice of a larger tensor would take all of it into the file.
    state = {k: v.detach().clone() for k, v in weights.state.items() if k.startswith((BACKBONE, HEAD))}
    left_out = [key for key in weights.state if key not in state]
    print(f'{args.source}: {weights.origin}')
    if model is not None:
        print(f'for {args.config}: {match_state_dict(state, model)[1]}')
    content: dict[str, object] = {'state_dict': state}
    if weights.class_names is not None:
        content['class_names'] = weights.class_names
    save_atomically(content, args.target)
    print(f'{args.target}: {len(state)} weights{", without " + ", ".join(left_out) if left_out else ""}')
