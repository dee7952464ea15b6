"""The drawing of the DSA module: up to date, well formed, and inside of its frame."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tools.analysis.draw_module import DEFAULT_OUT, HEIGHT, PLACES, WIDTH, render

ROOT = Path(__file__).parents[3]
SVG = '{http://www.w3.org/2000/svg}'


def test_committed_picture_is_what_the_script_draws():
    assert DEFAULT_OUT == ROOT / 'docs/images/dsa_module.svg'
    assert DEFAULT_OUT.read_text(encoding='utf-8') == render(), 'run python tools/analysis/draw_module.py'


def test_picture_is_well_formed_and_brings_its_own_background():
    root = ElementTree.fromstring(render())
    assert root.tag == f'{SVG}svg'
    assert root.get('viewBox') == f'0 0 {WIDTH} {HEIGHT}'
    background = root.find(f'{SVG}rect')
    assert (background.get('width'), background.get('height')) == (str(WIDTH), str(HEIGHT))
    assert root.find(f'{SVG}title').text == 'The DSA module'


def test_boxes_and_words_lie_inside_of_the_picture():
    root = ElementTree.fromstring(render())
    for box in root.iter(f'{SVG}rect'):
        x, y, width, height = (float(box.get(name)) for name in ('x', 'y', 'width', 'height'))
        assert 0 <= x
        assert x + width <= WIDTH
        assert 0 <= y
        assert y + height <= HEIGHT
    for text in root.iter(f'{SVG}text'):
        assert 0 < float(text.get('x')) < WIDTH
        assert 0 < float(text.get('y')) < HEIGHT


def test_picture_names_the_five_places():
    words = {''.join(text.itertext()) for text in ElementTree.fromstring(render()).iter(f'{SVG}text')}
    assert set(PLACES) <= words


def test_command_writes_where_it_is_told(tmp_path):
    command = [sys.executable, str(ROOT / 'tools/analysis/draw_module.py'), 'images/module.svg']
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == 'wrote images/module.svg\n'
    assert (tmp_path / 'images/module.svg').read_text(encoding='utf-8') == render()
