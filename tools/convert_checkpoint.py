"""Turn a checkpoint of any layout that we know into one of ours: plain weights under our keys, read without any code.

Training and testing take all those layouts as they are; this is for files that need code to be read, for keeping, and
for handing on.
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from dsanet.config.loading import load_config  # noqa: E402
from dsanet.config.registry import MODELS, build  # noqa: E402
from dsanet.engine.logging import plain_errors  # noqa: E402
from dsanet.models.weights.layouts import BACKBONE, HEAD, LAYOUTS, UNKNOWN  # noqa: E402
from dsanet.models.weights.loading import fit, read_weights  # noqa: E402
from dsanet.utils.checkpoint_io import ALLOW_PICKLE, save_atomically  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', type=Path, help='a checkpoint of another project, or of ours')
    parser.add_argument('target', type=Path, help='the new file; must not exist yet')
    parser.add_argument(
        '--config',
        help='a config whose model the weights are for: says what fits it, and decides where a network exists here '
        'twice, as R(2+1)D does (R2Plus1D; without a config TorchvisionVideo)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config'
    )
    parser.add_argument(
        ALLOW_PICKLE, action='store_true', help='let the source run code to be read; only if you trust its origin'
    )
    return parser.parse_args()


def convert(args: argparse.Namespace) -> None:
    """Convert a file and print what was done.

    Raises:
        FileNotFoundError, KeyError, ValueError: as ``read_weights``, ``load_config`` and ``fit``; the layout is not
            known, or the new file exists or has no folder.
    """
    if args.target.exists():
        raise ValueError(f'{args.target} exists already')
    if not args.target.absolute().parent.is_dir():
        raise FileNotFoundError(f'there is no folder {args.target.absolute().parent}')
    model = None
    if args.config is not None:
        with torch.device('meta'):
            model = build(load_config(args.config, args.cfg_options)['model'], MODELS, 'model').state_dict()
    weights = read_weights(args.source, model.keys() if model is not None else frozenset(), args.allow_pickle)
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
        print(f'for {args.config}: {fit(state, model)[1]}')
    content: dict[str, object] = {'state_dict': state}
    if weights.class_names is not None:
        content['class_names'] = weights.class_names
    save_atomically(content, args.target)
    print(f'{args.target}: {len(state)} weights{", without " + ", ".join(left_out) if left_out else ""}')


def main() -> None:
    args = parse_args()
    logging.basicConfig(format='%(message)s')
    with plain_errors():
        convert(args)


if __name__ == '__main__':
    main()
