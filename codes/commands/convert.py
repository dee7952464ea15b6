"""Convert a checkpoint from another project to DSANet's parameter names, without pickled objects.

Training and testing read all known layouts directly. Convert a file to remove its pickled objects, or to share it: a
checkpoint of DSANet keeps the weights, the class names, the config for testing without absolute paths, and the metrics
of its validation.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from dsanet.commands.arguments import MODEL_SOURCES, add_allow_pickle, add_config_options, check_config_is_given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help=f'checkpoint to read: {MODEL_SOURCES}')
    parser.add_argument(
        'target', metavar='TARGET', type=Path, help='.pth or .safetensors file to write; must not exist'
    )
    parser.add_argument(
        '--config',
        metavar='CONFIG',
        help='config of the model, to report the number of matching weights and to choose the implementation of '
        'R(2+1)D (without --config: TorchvisionVideo)',
    )
    parser.add_argument('--half', action='store_true', help='store the weights in half precision (float16)')
    add_config_options(parser)
    add_allow_pickle(parser, 'SOURCE')


def run(args: argparse.Namespace) -> None:
    check_config_is_given(args)
    from dsanet.engine.logging import exit_on_user_error, setup_logging

    with exit_on_user_error():
        setup_logging()
        _convert(args)


def _convert(args: argparse.Namespace) -> None:
    import torch

    from dsanet.config.registry import MODELS, build
    from dsanet.inference.checkpoint_config import config_for_checkpoint, config_to_share
    from dsanet.inference.model_sources import read_model
    from dsanet.inference.sharing.run_facts import KEY, find_run_facts
    from dsanet.models.weights.layouts import LAYOUTS, UNKNOWN
    from dsanet.models.weights.loading import match_state_dict, read_weights
    from dsanet.models.weights.renaming import BACKBONE, HEAD
    from dsanet.models.weights.state_dicts import to_half
    from dsanet.utils.checkpoint_io import save_atomically
    from dsanet.utils.files import check_absent, check_writable
    from dsanet.utils.safetensors_io import SUFFIX, write_safetensors

    check_absent(args.target)
    if not args.target.absolute().parent.is_dir():
        raise FileNotFoundError(f'folder not found: {args.target.absolute().parent}')
    if args.target.suffix not in ('.pth', SUFFIX):
        raise ValueError(f'TARGET {args.target} must end in .pth or {SUFFIX}')
    check_writable(args.target.absolute().parent, 'the folder of TARGET')
    file, source = read_model(args.source, args.allow_pickle)
    model = None
    if args.config is not None:
        config = config_for_checkpoint(file, source, args.config, args.cfg_options, args.imports)
        with torch.device('meta'):
            model = build(config['model'], MODELS, 'model').state_dict()
    weights = read_weights(file, model.keys() if model is not None else frozenset(), content=source)
    if weights.layout is UNKNOWN:
        known = ', '.join(layout.name for layout in LAYOUTS)
        raise ValueError(
            f'{args.source} has an unknown layout, with keys such as {", ".join(list(weights.state)[:3])}; '
            f'known layouts: {known}'
        )
    # Clone, because torch.save would write the whole storage of a slice.
    state = {k: v.detach().clone() for k, v in weights.state.items() if k.startswith((BACKBONE, HEAD))}
    if args.half:
        state = to_half(state)
    skipped = [key for key in weights.state if key not in state]
    print(f'{args.source}: {weights.origin}')
    if model is not None:
        print(f'{args.config}: {match_state_dict(state, model)[1]}')
    content: dict[str, object] = {'state_dict': state}
    if weights.class_names is not None:
        content['class_names'] = weights.class_names
    if weights.layout.name == 'DSANet' and isinstance(source.get('config'), Mapping):
        content['config'] = config_to_share(source['config'])
        if facts := find_run_facts(source, with_metrics=not args.half):
            content[KEY] = facts
    write = write_safetensors if args.target.suffix == SUFFIX else save_atomically
    write(content, args.target)
    print(f'{args.target}: {len(state)} tensors{"; skipped: " + ", ".join(skipped) if skipped else ""}')
