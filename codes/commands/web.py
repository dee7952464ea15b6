"""Show what a trained recognizer sees and predicts, on a local page in the browser.

Drop a video on the page: it shows the best classes, for longer videos the classes over time, and the snippets as the
network sees them. The page is reachable only from this machine, unless --host is given. Uploaded videos are removed
after a minute. Stop the server with Ctrl-C.

Requires Gradio: pip install gradio

Example:
    dsanet web work_dirs/my_run/best.pth
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    add_allow_pickle,
    add_config_options,
    float_between,
    int_between,
    load_model,
)

INTERRUPTED = 'Server stopped'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help=f'checkpoint: {MODEL_SOURCES}; other weights require --config')
    add(
        '--host',
        default='127.0.0.1',
        help='address to listen on; 0.0.0.0 lets everyone in the network use the page (default: only this machine)',
    )
    add('--port', type=int_between(1, 65535), default=7860, help='TCP port (default: 7860)')
    add('--max-size', type=int_between(1), default=200, metavar='MB', help='size limit of a video (default: 200)')
    add(
        '--window',
        type=float_between(0.001, 1e6),
        default=4.0,
        metavar='SECONDS',
        help='predict longer videos also over time, in windows of this length (default: 4)',
    )
    add('--config', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    add_config_options(parser)
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the first GPU, or else the CPU)")
    add_allow_pickle(parser, 'CHECKPOINT')


def run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.utils.signals import signals_exit
    from dsanet.web.page import check_gradio, serve

    setup_logging()
    with exit_on_user_error():
        check_gradio()
        recognizer = load_model(args)
        title = f'DSANet: {Path(args.checkpoint).name}'
        with signals_exit():  # uploads are removed
            serve(recognizer, title, args.host, args.port, args.max_size, args.window, _print_url)


def _print_url(url: str) -> None:
    print(f'Open {url} in a browser; stop with Ctrl-C', flush=True)
