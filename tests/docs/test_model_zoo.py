"""Each row of docs/model_zoo.md against its file in pretrained/."""

import re
import shlex

import pytest

from dsanet import load_recognizer
from dsanet.config.loading import find_differences
from dsanet.config.shipped import list_configs
from dsanet.datasets.classes import load_config_with_classes
from dsanet.inference.model_sources import read_model
from dsanet.utils.files import hash_file
from tests.docs.pages import PAGES, ROOT

FOLDER = ROOT / 'pretrained'
COLUMNS = ['file', 'config', 'data', 'seeds', 'top-1', 'classes', 'size, bytes', 'SHA-256', 'training']
MAX_BYTES = 1_000_000


def read_table() -> list[dict[str, str]]:
    lines = [line for line in PAGES['docs/model_zoo.md'].splitlines() if line.startswith('|')]
    head, _, *rows = [[cell.strip().strip('`') for cell in line.strip('|').split('|')] for line in lines]
    assert head == COLUMNS
    return [dict(zip(head, row, strict=True)) for row in rows]


ROWS = read_table()


def test_every_included_file_has_one_row() -> None:
    assert sorted(row['file'] for row in ROWS) == sorted(file.name for file in FOLDER.glob('*.safetensors'))


@pytest.mark.parametrize('row', ROWS, ids=[row['file'] for row in ROWS])
def test_row_describes_its_file(row: dict[str, str]) -> None:
    file = FOLDER / row['file']
    size = file.stat().st_size
    assert size <= MAX_BYTES
    assert row['size, bytes'] == f'{size:,}'
    assert row['SHA-256'] == hash_file(file)[:12]
    assert hash_file(file) in (FOLDER / 'README.md').read_text()
    recognizer = load_recognizer(file)
    assert len(recognizer.class_names) == recognizer.model.num_classes == int(row['classes'])


@pytest.mark.parametrize('row', ROWS, ids=[row['file'] for row in ROWS])
def test_row_names_the_config_of_the_file(row: dict[str, str]) -> None:
    assert row['config'] in list_configs()
    words = shlex.split(row['training'])
    options = words[words.index('--cfg-options') + 1 :] if '--cfg-options' in words else []
    config = load_config_with_classes(row['config'], options, num_classes=int(row['classes']))
    differences = find_differences(read_model(FOLDER / row['file'])[1]['config']['model'], config['model'])
    assert set(differences) <= {'backbone.pretrained'}


@pytest.mark.parametrize('row', ROWS, ids=[row['file'] for row in ROWS])
def test_row_has_numbers_and_commands(row: dict[str, str]) -> None:
    seeds, accuracies = row['seeds'].split(', '), row['top-1'].split(', ')
    assert len(seeds) == len(accuracies)
    assert all(seed.isdecimal() for seed in seeds)
    assert all(re.fullmatch(r'\d+(\.\d+)?%', accuracy) for accuracy in accuracies)
    assert row['training'].startswith(f'dsanet train {row["config"]} ')
    assert f'--seed {seeds[0]}' in row['training']
