"""Predict the classes of videos with a trained recognizer.

A VIDEO is a video file, a folder of frames, a folder of videos, a list (.txt) with a path per line, or a URL with
--allow-urls. On a terminal the best classes are shown as bars; piped, the output has one JSON object per video.

--long finds segments in films of any length; --stream predicts a camera, pipe or network stream as it arrives.

Examples:
    dsanet predict work_dirs/my_run/best.pth clip.mp4
    dsanet predict work_dirs/my_run/best.pth data/new_videos --csv predictions.csv
    dsanet predict work_dirs/my_run/best.pth film.mp4 --long --window 4 --out film_results
    dsanet predict work_dirs/my_run/best.pth /dev/video0 --stream
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    UsageError,
    add_allow_pickle,
    add_config_options,
    float_between,
    int_between,
    load_model,
    num_processes,
    output_file,
)
from dsanet.commands.predict_long import (
    add_long_arguments,
    check_long_arguments,
    check_no_stream,
    run_long,
    run_stream,
)
from dsanet.utils.console import LastingOutput

BAR_WIDTH = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'checkpoint',
        metavar='CHECKPOINT',
        help=f'checkpoint: {MODEL_SOURCES}; weights of other projects require --config',
    )
    add('videos', nargs='+', metavar='VIDEO', help='videos, folders, lists or URLs')
    add('--topk', type=int_between(1), default=5, metavar='K', help='number of classes per video (default: 5)')
    add(
        '--views',
        choices=('test', 'fast'),
        default='test',
        help='test: average the views of the config; fast: the center of a single view (default: test)',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--json', type=output_file('.json'), metavar='FILE', help='write the results as JSON')
    what.add_argument('--csv', type=output_file('.csv'), metavar='FILE', help='write the results as CSV')
    add(
        '--out-video',
        type=output_file('.mp4'),
        metavar='FILE',
        help='write a copy of the video with its best class, and the frames that the network has seen',
    )
    add(
        '--data-root',
        metavar='FOLDER',
        help='folder of the relative paths in lists (default: here, or beside the list)',
    )
    add(
        '--fps',
        type=float_between(0.001, 1000),
        metavar='N',
        help='frames per second of folders of frames (default: as in the config, else unknown)',
    )
    add('--allow-urls', action='store_true', help='download videos from http and https')
    add('--config', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    add_config_options(parser)
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the first GPU, or else the CPU)")
    add(
        '--workers',
        type=num_processes(0),
        metavar='N',
        help='processes that read the videos (default: as in the config; 0 for a single video)',
    )
    add_allow_pickle(parser, 'CHECKPOINT')
    add_long_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.inference.sources import find_sources
    from dsanet.utils.files import check_outputs

    check_long_arguments(args)
    with exit_on_user_error():
        if not args.stream:
            check_no_stream(args.videos)
        outputs = {'--json': args.json, '--csv': args.csv, '--out-video': args.out_video}
        check_outputs(outputs, [args.checkpoint, args.config, *args.videos])
        recognizer = load_model(args, views=args.views)
        recognizer.model.optimize()
        if args.long or args.stream:
            return (run_long if args.long else run_stream)(args, recognizer)
        sources, _ = find_sources(args.videos, args.fps, args.allow_urls, recognizer.frame_names, args.data_root)
        if args.out_video is not None and len(sources) != 1:
            raise UsageError(f'--out-video is for a single video; {len(sources)} are given')
        workers = args.workers
        if workers is None:
            workers = recognizer.config['test_dataloader'].get('num_workers', 2) if len(sources) > 1 else 0
        output = LastingOutput(any(file is not None for file in outputs.values()))
        results = list(_show(recognizer.iterate(sources, args.topk, num_workers=workers), len(sources), output))
        if len(results) == 1 and results[0].error is not None:
            raise ValueError(results[0].error)
        _write(args, results)
        failed = [result for result in results if result.error is not None]
        if args.out_video is not None and not failed:
            from dsanet.inference.annotation import annotate_video

            annotate_video(sources[0], results[0], args.out_video)
            print(f'Annotated video written to {args.out_video}', file=sys.stderr)
    output.end()
    if failed:
        print(f'{len(failed)} of {len(results)} videos could not be predicted', file=sys.stderr)
    return 1 if failed else 0


def _show(results: Any, number: int, output: LastingOutput) -> Iterator[Any]:
    """Print and yield the results as they arrive."""
    from tqdm import tqdm

    hidden = number == 1 or not sys.stderr.isatty()
    with tqdm(results, total=number, leave=False, disable=hidden, dynamic_ncols=True) as bar:
        for result in bar:
            if number == 1 and result.error is not None:
                pass  # becomes the error of the command
            elif sys.stdout.isatty():
                bar.clear()
                output(print, format_result(result))
            else:
                output(_print_line, result)
            yield result


def _print_line(result: Any) -> None:
    print(json.dumps(result.to_dict()), flush=True)


def format_result(result: Any) -> str:
    """Return the lines for a terminal: the video, and a bar for each class."""
    if result.error is not None:
        return f'{result.video}\n  error: {result.error}'
    length = '' if result.seconds is None else f', {result.seconds:.1f} s'
    views = f'{result.num_views} view{"s" * (result.num_views > 1)}'
    lines = [f'{result.video}  ({result.num_frames} frames{length}, {views})']
    width = max(map(len, result.labels))
    for label, probability in zip(result.labels, result.probabilities, strict=True):
        bar = '█' * round(BAR_WIDTH * probability)
        lines.append(f'  {label:<{width}}  {100 * probability:5.1f}%  {bar}'.rstrip())
    return '\n'.join(lines)


def _write(args: argparse.Namespace, results: list[Any]) -> None:
    from dsanet.utils.files import write_atomically

    if args.json is not None:
        write_atomically(json.dumps([result.to_dict() for result in results], indent=2).encode() + b'\n', args.json)
    if args.csv is not None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(['video', 'rank', 'label', 'score', 'probability', 'error'])
        for result in results:
            if result.error is not None:
                writer.writerow([result.video, '', '', '', '', result.error])
            rows = zip(result.labels, result.scores, result.probabilities, strict=True)
            writer.writerows([result.video, rank, *row, ''] for rank, row in enumerate(rows, start=1))
        write_atomically(text.getvalue().encode(errors='surrogateescape'), args.csv)
    for file in (args.json, args.csv):
        if file is not None:
            print(f'Predictions written to {file}', file=sys.stderr)
