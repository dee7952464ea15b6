"""A recognizer with random weights, its checkpoint, and videos for it."""

from pathlib import Path

import torch

from dsanet.config.registry import MODELS, build
from dsanet.inference.recognizer import Recognizer
from dsanet.utils.checkpoint_io import save_atomically
from tests.engine.conftest import make_config
from tests.make_videos import write_video


def make_recognizer() -> Recognizer:
    """Return a recognizer with eight classes and two views, whose scores depend on the frames."""
    config = make_config(Path('nowhere'))
    torch.manual_seed(3)
    model = build(config['model'], MODELS)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    return Recognizer(model, config, [f'class {k}' for k in 'abcdefgh'], 'cpu')


def save_recognizer(recognizer: Recognizer, file: Path) -> Path:
    """Write a checkpoint that is enough for predictions."""
    state, names = recognizer.model.state_dict(), recognizer.class_names
    save_atomically({'state_dict': state, 'config': recognizer.config, 'class_names': names}, file)
    return file


def write_some_videos(root: Path) -> None:
    """Write three videos of 30 frames in two folders, a damaged one, and another file."""
    (root / 'sub').mkdir(parents=True)
    for name in ('a.mp4', 'sub/b c.mp4', 'sub/d.mkv'):
        write_video(str(root / name), 30)
    (root / 'bad.mp4').write_bytes(b'\0' * 5000)
    (root / 'notes.txt').write_text('nothing\n')
