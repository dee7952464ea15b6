"""The table of datasets agrees with the configs and the official file names."""

import re
from pathlib import Path

import pytest

from dsanet.data_tools.lists.catalog import KNOWN_DATASETS

CONFIGS = Path(__file__).parents[3] / 'configs'


@pytest.mark.parametrize(
    ('data_set', 'folder', 'pattern'),
    [
        ('kinetics400', 'kinetics', '*.py'),
        ('mini_kinetics200', 'mini_kinetics', '*.py'),
        ('something_v1', 'something', 'sthv1_*.py'),
        ('something_v2', 'something', 'sthv2_*.py'),
        ('activitynet', 'activitynet', '*.py'),
        ('ucf101', 'ucf101', '*.py'),
        ('hmdb51', 'hmdb51', '*.py'),
    ],
)
def test_class_counts_agree_with_the_configs(data_set: str, folder: str, pattern: str) -> None:
    configs = list((CONFIGS / folder).glob(pattern))
    assert configs
    for config in configs:
        found = re.search(r'^num_classes = (\d+)', config.read_text(), re.M)
        assert found is not None
        assert int(found[1]) == KNOWN_DATASETS[data_set].num_classes


def test_frame_name_templates_agree_with_the_configs() -> None:
    for data_set, fragment in (('something_v1', '{:05}.jpg'), ('something_v2', '{:06d}.jpg')):
        assert KNOWN_DATASETS[data_set].filename_tmpl.format(7) == fragment.format(7)
