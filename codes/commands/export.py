"""Export a trained recognizer to a file for ONNX Runtime, PyTorch without DSANet, or OpenVINO.

The file takes uint8 RGB frames (N, V, U, T, H, W, C) with any number of videos N and of views V, and returns scores
and probabilities (N, K). Normalization and the mean over the views are part of it; class names and sampling are in its
metadata. The file is written only if its scores are those of PyTorch.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    UsageError,
    add_allow_pickle,
    add_config_options,
    files_of_config,
    load_model,
    output_file,
)

SUFFIXES = {'onnx': '.onnx', 'pt2': '.pt2', 'openvino': '.xml'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help=f'checkpoint to export: {MODEL_SOURCES}')
    parser.add_argument(
        '--format', choices=tuple(SUFFIXES), help='format of the file (default: by the suffix of --out)'
    )
    parser.add_argument(
        '--out',
        type=output_file(*SUFFIXES.values()),
        metavar='FILE',
        help='file to write, must not exist; an OpenVINO model is FILE.xml and FILE.bin (default: CHECKPOINT with '
        'another suffix; NAME.onnx and so on for hf-hub:USER/NAME)',
    )
    parser.add_argument(
        '--video', metavar='VIDEO', help='video for comparing the file with PyTorch (default: generated clips)'
    )
    parser.add_argument('--config', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    add_config_options(parser)
    add_allow_pickle(parser, 'CHECKPOINT')


def run(args: argparse.Namespace) -> None:
    form, out = _find_output(args)
    from dsanet.engine.logging import exit_on_user_error, setup_logging

    with exit_on_user_error():
        setup_logging()
        _export(args, form, out)


def _find_output(args: argparse.Namespace) -> tuple[str, Path]:
    """Return format and file, of which one may be missing in the arguments."""
    if args.format is None and args.out is None:
        raise UsageError('set --format onnx, pt2 or openvino, or --out FILE with the suffix .onnx, .pt2 or .xml')
    form = args.format or next(name for name, suffix in SUFFIXES.items() if suffix == args.out.suffix)
    if args.out is None:
        from dsanet.inference.model_sources import default_output

        return form, default_output(args.checkpoint, SUFFIXES[form])
    if args.out.suffix != SUFFIXES[form]:
        raise UsageError(f'--out {args.out} must end in {SUFFIXES[form]} for --format {form}')
    return form, args.out


def _export(args: argparse.Namespace, form: str, out: Path) -> None:
    from dsanet.inference.export.exporting import export_recognizer
    from dsanet.inference.export.formats import check_installed
    from dsanet.utils.files import check_absent, check_outputs, check_writable

    check_installed(form)
    check_writable(out.parent, '--out')
    check_absent(out)
    if form == 'openvino':
        check_absent(out.with_suffix('.bin'))
    recognizer = load_model(args, 'cpu')
    check_outputs({'--out': out}, [args.checkpoint, args.config, args.video, *files_of_config(recognizer.config)])
    report = export_recognizer(recognizer.model, recognizer.steps, recognizer.class_names, form, out, args.video)
    size = sum(file.stat().st_size for file in report.files)
    print(f'input:      frames uint8 ({", ".join(map(str, report.input_shape))})')
    print(f'difference: {report.difference:.2g} from the scores of PyTorch, which are up to {report.largest_score:.3g}')
    print(f'written:    {", ".join(map(str, report.files))} ({size / 1e6:.1f} MB)')
