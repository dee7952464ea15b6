"""Long videos and streams, the options ``--long`` and ``--stream`` of ``dsanet predict``."""

import argparse
import json
import math
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import UsageError, float_between
from dsanet.utils.console import LastingOutput

ONLY_LONG = ('window', 'stride', 'threshold', 'out', 'ground_truth')
ONLY_SHORT = ('json', 'csv', 'workers', 'fps')
MAX_CURVE_BYTES = 2**26  # of a stream; earlier parts are only in the CSV file


def add_long_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for long videos and streams."""
    group = parser.add_argument_group('long videos and streams')
    add = group.add_argument
    add('--long', action='store_true', help='find segments in films: windows slide over them')
    add(
        '--stream',
        action='store_true',
        help='predict a stream as it arrives: - for standard input, a device such as /dev/video0, a named pipe, or a '
        'URL with --allow-urls (http, https, rtsp, rtmp, udp, tcp); Ctrl-C ends it',
    )
    add(
        '--window',
        type=float_between(0.001, 1e6),
        metavar='SECONDS',
        help='length of a window; best is the usual length of the training videos (default: 4)',
    )
    add(
        '--stride',
        type=float_between(0.001, 1e6),
        metavar='SECONDS',
        help='from the start of a window to that of the next (default: half a window)',
    )
    add(
        '--threshold',
        type=float_between(0, 1),
        metavar='P',
        help='smallest probability of a label; below it, there is none (default: 0.5)',
    )
    add(
        '--out',
        type=Path,
        metavar='FOLDER',
        help='write the probabilities over time (CSV, PNG) and the segments (segments.json, activitynet.json, '
        'label_studio.json)',
    )
    add(
        '--ground-truth',
        type=Path,
        metavar='FILE',
        help='annotated segments as JSON of ActivityNet; prints the mAP at tIoU 0.3 to 0.7',
    )


def check_long_arguments(args: argparse.Namespace) -> None:
    """Raise a UsageError if options do not fit together."""
    if args.long and args.stream:
        raise UsageError('--long and --stream exclude each other')
    is_long = args.long or args.stream
    for name in ONLY_SHORT if is_long else ONLY_LONG:
        if getattr(args, name) is not None:
            option = f'--{name.replace("_", "-")}'
            hint = 'use --out' if name in ('json', 'csv') else 'remove it'
            wanted = f'has no effect with {"--long" if args.long else "--stream"}; {hint}'
            if not is_long:
                more = '; --out-video writes a copy of the video with its label' if name == 'out' else ''
                wanted = f'has no effect without --long or --stream{more}'
            raise UsageError(f'{option} {wanted}')
    if args.stream:
        if len(args.videos) != 1:
            raise UsageError(f'--stream reads one stream; {len(args.videos)} are given')
        for name in ('out_video', 'ground_truth'):
            if getattr(args, name) is not None:
                raise UsageError(f'--{name.replace("_", "-")} is for films, not for --stream')


def check_no_stream(videos: list[str]) -> None:
    """Raise a ValueError if a video can only be read as a stream."""
    from dsanet.inference.long.streams import check_scheme, is_stream, stream_name

    for video in videos:
        if is_stream(video):
            check_scheme(video)
            raise ValueError(f'{stream_name(video)} is a stream; predict it with --stream')


def run_long(args: argparse.Namespace, recognizer: Any) -> int:
    """Predict films; return the exit status."""
    from tqdm import tqdm

    from dsanet.evaluation.detection import read_ground_truth
    from dsanet.inference.long.annotation import annotate_film
    from dsanet.inference.long.predictor import make_merger
    from dsanet.inference.long.windows import WindowSpec
    from dsanet.inference.sources import find_sources

    window, stride, threshold = _settings(args)
    WindowSpec(window, stride)  # checked before any film is read
    make_merger(recognizer, threshold)
    truth = None if args.ground_truth is None else read_ground_truth(args.ground_truth)
    sources, _ = find_sources(args.videos, None, args.allow_urls, recognizer.frame_names, args.data_root)
    if args.out_video is not None and len(sources) != 1:
        raise UsageError(f'--out-video is for a single video; {len(sources)} are given')
    if len(sources) == 1:
        sources[0].check_exists()
    names = _names([source.name for source in sources], must_differ=args.out is not None or truth is not None)
    if truth is not None:
        for name in names.values():
            _name_in_truth(truth, name)  # checked before any film is read
    outputs = Outputs(args, list(names.values()))
    output = LastingOutput(args.out is not None or args.out_video is not None)
    predictions = []
    for source in sources:
        with tqdm(desc=names[source.name], unit=' windows', leave=False, disable=None) as bar:
            result, frames = _predict_film(args, recognizer, source, bar)
        if result.error is not None and len(sources) == 1:
            raise ValueError(result.error)
        predictions.append(result)
        output(print_film, result)
        if result.error is None:
            name = names[source.name]
            known = () if truth is None else truth[_name_in_truth(truth, name)]
            outputs.write_curve(result, recognizer.class_names, name, known, frames)
    outputs.write_segments(predictions, names)
    if args.out_video is not None:
        with sources[0].open() as record:
            annotate_film(record['path'], predictions[0], args.out_video)
        print(f'Annotated video written to {args.out_video}', file=sys.stderr)
    if truth is not None:
        print_map(truth, [result for result in predictions if result.error is None], names)
    output.end()
    failed = sum(result.error is not None for result in predictions)
    if failed:
        print(f'{failed} of {len(predictions)} videos could not be predicted', file=sys.stderr)
    return 1 if failed else 0


def _predict_film(args: argparse.Namespace, recognizer: Any, source: Any, bar: Any) -> tuple[Any, Any]:
    """Return the result and, with ``--out``, some frames for the plot."""
    from dsanet.inference.long.films import read_strip
    from dsanet.inference.long.predictor import LongPrediction, predict_long
    from dsanet.utils.machine_faults import MachineError
    from dsanet.utils.text import printable

    try:
        if source.span is not None:
            raise ValueError(f'{source.name} is a span of a video; --long reads whole videos')
        if source.kind != 'video':
            raise ValueError(f'{source.name} is a folder of frames, whose times are unknown; --long reads video files')
        with source.open() as record:
            path = record['path']
            result = predict_long(recognizer, path, *_settings(args), on_window=lambda _: bar.update())
            frames = None
            if args.out is not None:
                try:
                    frames = read_strip(path)
                except (OSError, ValueError) as error:
                    if isinstance(error, MachineError):
                        raise
                    print(f'The plot shows no frames: {printable(str(error))}', file=sys.stderr)
            return LongPrediction(**{**vars(result), 'video': source.name}), frames
    except (OSError, ValueError) as error:
        if isinstance(error, MachineError):
            raise
        text = str(error)
        message = printable(text if source.name in text else f'{source.name}: {text}')
        return LongPrediction(source.name, error=message), None


def _settings(args: argparse.Namespace) -> tuple[float, float | None, float]:
    from dsanet.inference.long.windows import DEFAULT_WINDOW_S

    return args.window or DEFAULT_WINDOW_S, args.stride, 0.5 if args.threshold is None else args.threshold


def _names(videos: list[str], must_differ: bool) -> dict[str, str]:
    """Return the name of each film without folders and extension, for output files and the ground truth."""
    stems = [Path(video).stem for video in videos]
    name, number = Counter(stems).most_common(1)[0]
    if number > 1 and must_differ:
        same = ' and '.join(video for video, stem in zip(videos, stems, strict=True) if stem == name)
        raise ValueError(f'{same} have the same name {name!r}; results are written by name')
    return dict(zip(videos, stems, strict=True))


class Outputs:
    """The files in ``--out``; without this option, nothing is written."""

    def __init__(self, args: argparse.Namespace, names: list[str]) -> None:
        from dsanet.inference.long.files import ACTIVITYNET_FILE, LABEL_STUDIO_FILE, SEGMENTS_FILE
        from dsanet.utils.files import check_outputs, check_writable

        self.folder = args.out
        window, stride, self.threshold = _settings(args)
        self.settings = {
            'checkpoint': args.checkpoint,
            'window': window,
            'stride': window / 2 if stride is None else stride,
            'threshold': self.threshold,
        }
        if self.folder is None:
            return
        check_writable(self.folder, '--out')
        files = [f'{name}{suffix}' for name in names for suffix in ('.csv', '.png')]
        outputs = {name: self.folder / name for name in (*files, SEGMENTS_FILE, ACTIVITYNET_FILE, LABEL_STUDIO_FILE)}
        check_outputs(
            {**outputs, '--out-video': args.out_video}, [args.checkpoint, args.config, args.ground_truth, *args.videos]
        )

    def open_curve(self, stack: ExitStack, class_names: list[str], name: str) -> Any:
        """Return an open CSV file, or None."""
        from dsanet.inference.long.files import CurveFile

        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(CurveFile(self.folder / f'{name}.csv', class_names))

    def write_curve(self, result: Any, class_names: list[str], name: str, truth: Any, frames: Any) -> None:
        """Write the probabilities of a film; see :func:`plot_timeline` for the annotated segments and the frames."""
        with ExitStack() as stack:
            file = self.open_curve(stack, class_names, name)
            if file is not None:
                file.add(result.curve)
                self.plot(result, class_names, name, truth, frames)  # before the CSV file gets its name: both, or none

    def plot(self, result: Any, class_names: list[str], name: str, truth: Any = (), frames: Any = None) -> None:
        """Plot the probabilities."""
        from dsanet.reports.timeline import plot_timeline

        if self.folder is not None:
            file = self.folder / f'{name}.png'
            plot_timeline(result.curve, result.segments, class_names, self.threshold, name, file, truth, frames)

    def write_segments(self, predictions: list[Any], names: dict[str, str]) -> None:
        """Write the segments of all films."""
        from dsanet.inference.long.files import write_segments

        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)  # no film may have had a curve
            write_segments(predictions, self.folder, self.settings, names)
            print(f'Results written to {self.folder}', file=sys.stderr)


def clock_time(seconds: float) -> str:
    """Return a time such as 1:02:03.50."""
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest / 100:05.2f}' if hours else f'{minutes}:{rest / 100:05.2f}'


def print_film(result: Any) -> None:
    """Print the segments: a table on a terminal, otherwise a JSON object per segment."""
    if not sys.stdout.isatty():
        rows = [segment.to_dict() for segment in result.segments] if result.error is None else [result.to_dict()]
        for row in rows:
            print(json.dumps({'video': result.video, **row}), flush=True)
        return
    if result.error is not None:
        print(f'{result.video}\n  error: {result.error}')
        return
    print(f'{result.video}  ({clock_time(result.seconds)}, {result.num_windows} windows)')
    print('\n'.join(format_segments(result.segments)))


def format_segments(segments: list[Any]) -> list[str]:
    """Return the lines of a table of segments."""
    if not segments:
        return ['  no segments']
    width = max(len('label'), *(len(segment.label) for segment in segments))
    rows = [
        f'  {clock_time(s.start):>11}  {clock_time(s.end):>11}  {s.label:<{width}}  {100 * s.score:5.1f}%'
        for s in segments
    ]
    return [f'  {"start":>11}  {"end":>11}  {"label":<{width}}   score', *rows]


def _name_in_truth(truth: Any, name: str) -> str:
    """Return the name of a film in the ground truth: files of ActivityNet have the prefix v_."""
    found = next((n for n in (name, name.removeprefix('v_')) if n in truth), None)
    if found is None:
        raise ValueError(f'--ground-truth has no video {name!r}; it has videos such as {min(truth, default=None)!r}')
    return found


def print_map(truth: Any, predictions: list[Any], names: dict[str, str]) -> None:
    """Print the mAP of films: on a terminal to stdout, otherwise to stderr, because stdout has JSON lines."""
    from dsanet.evaluation.detection import FoundSegment, detection_map

    found = {}
    for result in predictions:
        name = _name_in_truth(truth, names[result.video])
        found[name] = [FoundSegment(s.label, s.start, s.end, s.score) for s in result.segments]
    values = detection_map({name: truth[name] for name in found}, found)
    file = sys.stdout if sys.stdout.isatty() else sys.stderr
    print('tIoU   ' + '  '.join(f'{threshold:6.1f}' for threshold in values) + '    mean', file=file)
    mean = math.fsum(values.values()) / len(values)
    print('mAP    ' + '  '.join(f'{value:6.2f}' for value in (*values.values(), mean)), file=file)


def run_stream(args: argparse.Namespace, recognizer: Any) -> int:
    """Predict a stream until it ends or Ctrl-C; return the exit status."""
    from dsanet.engine.stopping import StopRequest
    from dsanet.inference.long.live import StreamPredictor
    from dsanet.inference.long.predictor import Timeline, make_merger
    from dsanet.utils.text import error_line

    window, stride, threshold = _settings(args)
    outputs = Outputs(args, ['stream'])
    output = LastingOutput(args.out is not None)
    merger = make_merger(recognizer, threshold)
    with StopRequest() as request, ExitStack() as stack:
        stream = StreamPredictor(
            recognizer, args.videos[0], window, stride, args.allow_urls, should_stop=lambda: bool(request.number)
        )
        names = recognizer.class_names
        timeline = Timeline(merger, stream.spec, max(1000, MAX_CURVE_BYTES // (4 * len(names))))
        file = outputs.open_curve(stack, names, 'stream')
        problem: ValueError | None = None
        try:
            for window_scores in stream:
                points = timeline.add(window_scores)
                if file is not None:
                    file.add(points)
                if not output(print_window, stream, window_scores, names, threshold, args.topk):
                    break
        except ValueError as error:
            if not timeline.num_windows:
                raise
            problem = error
        points = timeline.finish()
        if file is not None:
            file.add(points)
    result = timeline.to_prediction(stream.name, stream.fps)
    outputs.plot(result, names, 'stream')
    outputs.write_segments([result], {stream.name: 'stream'})
    if sys.stdout.isatty():
        print('\n'.join(format_segments(result.segments)))
    print(format_stats(stream.stats), file=sys.stderr)
    output.end()
    if problem is not None:
        sys.stderr.write(error_line(problem))
    return 0 if problem is None else 1


def print_window(stream: Any, result: Any, names: list[str], threshold: float, topk: int) -> None:
    """Print the result of a window: a line on a terminal, otherwise a JSON object."""
    best = (-result.probabilities).argsort(kind='stable')[:topk].tolist()
    probabilities = result.probabilities[best].tolist()
    latency = stream.stats.latencies[-1]
    if sys.stdout.isatty():
        label = names[best[0]] if probabilities[0] >= threshold else '-'
        span = f'{clock_time(result.start):>11}  {clock_time(result.end):>11}'
        print(f'  {span}  {100 * probabilities[0]:5.1f}%  {label}  ({latency:.2f} s later)', flush=True)
        return
    line = {
        'video': stream.name,
        'start': float(result.start),
        'end': float(result.end),
        'num_frames': result.num_frames,
        'labels': [names[k] for k in best],
        'probabilities': probabilities,
        'latency': latency,
        'dropped_windows': stream.stats.num_dropped_windows,
    }
    print(json.dumps(line), flush=True)


def format_stats(stats: Any) -> str:
    """Return the summary of a stream."""
    numbers = stats.to_dict()
    latency = ''
    if numbers['latency_max'] is not None:
        latency = f'; latency median {numbers["latency_median"]:.3f} s, max {numbers["latency_max"]:.3f} s'
    return (
        f'{stats.num_windows} windows predicted, {stats.num_dropped_windows} dropped; '
        f'{stats.num_unseen_frames} of {stats.num_frames} frames not seen{latency}'
    )
