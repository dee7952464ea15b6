"""The commands and the program of docs/export.md, and what the page says about the files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dsanet import load_recognizer
from dsanet.config.registry import MODELS, build
from dsanet.inference.export.exporting import PROB_TOLERANCE, TOLERANCE
from dsanet.inference.export.formats import FORMATS, INPUT, OUTPUTS
from dsanet.utils.checkpoint_io import save_atomically
from tests.docs.pages import PAGES, code_blocks
from tests.engine.conftest import make_config
from tests.make_videos import write_video

PAGE = PAGES['docs/export.md']
RESIZE_AND_CROPS = [{'type': 'Resize', 'short_side': 40}, {'type': 'ThreeCrop', 'size': 40}]


def test_page_has_formats_names_and_tolerances() -> None:
    rows = re.findall(r'^\| `(\w+)` \| `best(\.\w+)`', PAGE, flags=re.M)
    assert rows == [(name, form.suffix) for name, form in FORMATS.items()]
    for name in (INPUT, *OUTPUTS):
        assert f'\n| `{name}` |' in PAGE
    assert '1e-4 of the largest score or probabilities by more than 1e-3' in PAGE
    assert (TOLERANCE, PROB_TOLERANCE) == (1e-4, 1e-3)


@pytest.mark.sweep
@pytest.mark.parametrize('crops', [RESIZE_AND_CROPS, [{'type': 'CenterCrop', 'size': 48}]])
def test_commands_and_program_predict_a_video(crops: list[dict], tmp_path: Path) -> None:
    config = make_config(tmp_path)
    pipeline = config['test_dataloader']['dataset']['pipeline']
    pipeline[-2:-1] = crops
    torch.manual_seed(0)
    model = build(config['model'], MODELS, 'model')
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    content = {'state_dict': model.state_dict(), 'config': config, 'class_names': [f'class {k}' for k in 'abcdefgh']}
    save_atomically(content, tmp_path / 'best.pth')
    write_video(tmp_path / 'clip.mp4', 40)
    (tmp_path / 'predict_onnx.py').write_text(code_blocks(PAGE, 'python')[0])

    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    outputs = []
    for commands in code_blocks(PAGE, 'bash'):
        done = subprocess.run(
            ['bash', '-e', '-c', commands],
            cwd=tmp_path,
            env={**os.environ, 'PATH': path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f'{commands}\n{done.stdout}\n{done.stderr}'
        outputs.append(done.stdout)
    found = [line.split('  ') for line in outputs[-1].splitlines()]
    expected = load_recognizer(tmp_path / 'best.pth', 'cpu')(tmp_path / 'clip.mp4')
    assert [name for _, name in found] == expected.labels
    # Resizing in NumPy rounds a few pixels differently.
    assert [float(text) for text, _ in found] == pytest.approx(expected.probabilities, abs=2e-3)
