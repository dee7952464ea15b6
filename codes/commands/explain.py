"""Show where a recognizer finds a class in a video: class activation maps (Grad-CAM) over the frames of each snippet.

Example:
    dsanet explain work_dirs/my_run/best.pth clip.mp4 --out maps.png maps.mp4
"""

import argparse

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    UsageError,
    add_allow_pickle,
    add_config_options,
    load_model,
    output_file,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help=f'checkpoint: {MODEL_SOURCES}')
    add('video', metavar='VIDEO', help='a video or a folder of frames')
    add(
        '--out',
        type=output_file('.png', '.mp4'),
        nargs='+',
        required=True,
        metavar='FILE',
        help='.png for a sheet with a row per snippet, .mp4 for a video, or both',
    )
    add('--layer', metavar='NAME', help='module of the model (default: the last one with positions)')
    add('--class', dest='label', metavar='NAME', help='class of the maps (default: the predicted class)')
    add('--config', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    add_config_options(parser)
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the first GPU, or else the CPU)")
    add_allow_pickle(parser, 'CHECKPOINT')


def run(args: argparse.Namespace) -> None:
    from dsanet.data_tools.visualization import save_png
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.explain.cam import explain_video
    from dsanet.explain.cam_pictures import draw_maps, write_maps_video
    from dsanet.inference.sources import find_sources
    from dsanet.utils.files import check_outputs

    with exit_on_user_error():
        outputs = {f'--out ({n})': file for n, file in enumerate(args.out, 1)}
        check_outputs(outputs, [args.checkpoint, args.config, args.video])
        recognizer = load_model(args, views='fast')
        sources, _ = find_sources(args.video, frame_names=recognizer.frame_names)
        if len(sources) != 1:
            raise UsageError(f'explain shows a single video; {args.video} has {len(sources)}')
        maps = explain_video(recognizer, sources[0], args.layer, args.label)
        for file in args.out:
            if file.suffix == '.png':
                save_png(draw_maps(maps), file)
            else:
                write_maps_video(maps, file)
    print(f'{maps.label}: {100 * maps.probability:.1f}%, maps of {maps.layer}')
    print('Written to ' + ', '.join(map(str, args.out)))
