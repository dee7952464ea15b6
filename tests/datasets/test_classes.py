from pathlib import Path
from typing import Any

import pytest

from dsanet.datasets.classes import ClassCount, find_class_names, find_num_classes, load_config_with_classes

SECTIONS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / 'classes.txt').write_text('clap\nwave\nwalk\n')
    (tmp_path / 'train.txt').write_text('a.mp4 0\nb.mp4 3\n')
    (tmp_path / 'val.txt').write_text('folder 12 1,4\n')
    for name in ('clap', 'wave'):
        (tmp_path / 'folders' / name).mkdir(parents=True)
    return tmp_path


def config(train: dict[str, Any], val: dict[str, Any] | None = None) -> dict[str, Any]:
    sections = {'train_dataloader': train, 'val_dataloader': val}
    return {name: {'dataset': {'type': 'X'} | dataset} for name, dataset in sections.items() if dataset is not None}


def test_class_file_takes_precedence_over_list(data: Path) -> None:
    dataset = {'list_file': str(data / 'train.txt'), 'class_file': str(data / 'classes.txt')}
    assert find_num_classes(config(dataset), SECTIONS) == ClassCount(3, str(data / 'classes.txt'), True)


def test_num_classes_of_lists_is_largest_label(data: Path) -> None:
    train, val = ({'list_file': str(data / f'{name}.txt')} for name in ('train', 'val'))
    assert find_num_classes(config(train), SECTIONS).number == 4
    assert find_num_classes(config(train, val), SECTIONS) == ClassCount(5, str(data / 'val.txt'), False)


def test_class_folders_are_counted(data: Path) -> None:
    assert find_num_classes(config({'data_root': str(data / 'folders')}), SECTIONS).number == 2


def test_classes_option_and_mixed_datasets_are_counted(data: Path) -> None:
    chosen = {'classes': ['clap', 'walk'], 'class_file': str(data / 'classes.txt'), 'list_file': 'x'}
    mixed = {'datasets': [{'type': 'X', **chosen}, {'type': 'X', 'data_root': str(data / 'folders')}]}
    assert find_num_classes(config(mixed), SECTIONS).number == 2


def test_conflicting_num_classes_names_both_sources(data: Path) -> None:
    train, val = {'class_file': str(data / 'classes.txt')}, {'data_root': str(data / 'folders')}
    with pytest.raises(ValueError, match=r'classes\.txt .*3.*folders .*2'):
        find_num_classes(config(train, val), SECTIONS)


def test_dataset_without_class_information_is_an_error() -> None:
    with pytest.raises(ValueError, match=r'train_dataloader\.dataset \(X\)'):
        find_num_classes(config({}), SECTIONS)
    with pytest.raises(ValueError, match='num_classes'):
        find_num_classes({}, SECTIONS)


@pytest.mark.parametrize('name', ['custom/small_from_scratch', 'custom/multi_label_videos'])
def test_num_classes_none_is_replaced_everywhere(name: str, data: Path) -> None:
    loaded = load_config_with_classes(name, [f'data_root={data}'])
    assert loaded == load_config_with_classes(name, [f'data_root={data}', 'num_classes=3'])
    assert loaded['model']['cls_head']['num_classes'] == 3


def test_known_num_classes_reads_no_data() -> None:
    loaded = load_config_with_classes('custom/small_from_scratch', ['data_root=nowhere'], num_classes=7)
    assert loaded['model']['cls_head']['num_classes'] == 7


def test_num_classes_given_is_kept(data: Path) -> None:
    loaded = load_config_with_classes('custom/small_from_scratch', [f'data_root={data}', 'num_classes=5'])
    assert loaded['model']['cls_head']['num_classes'] == 5


def test_num_classes_of_head_is_replaced(data: Path, tmp_path: Path) -> None:
    own = "_base_ = ['custom/small_from_scratch']\nmodel = dict(cls_head=dict(num_classes=None))\n"
    (tmp_path / 'own.py').write_text(own)
    loaded = load_config_with_classes(tmp_path / 'own.py', [f'data_root={data}'])
    assert loaded['model']['cls_head']['num_classes'] == 3


def test_class_names_in_another_order_are_refused(data: Path) -> None:
    (data / 'other.txt').write_text('clap\nwalk\nwave\n')
    train, val = ({'class_file': str(data / name), 'list_file': 'x'} for name in ('classes.txt', 'other.txt'))
    with pytest.raises(ValueError, match=r"class 1 .*'wave'.*classes\.txt.*'walk'.*other\.txt"):
        find_num_classes(config(train, val), SECTIONS)


def test_class_names_are_found_without_lists(data: Path) -> None:
    file, folders = str(data / 'classes.txt'), str(data / 'folders')
    own = {'type': 'VideoDataset'}
    (data / 'empty').mkdir()
    for dataset, expected in (
        ({**own, 'class_file': file, 'list_file': 'nowhere.txt'}, (['clap', 'wave', 'walk'], file)),
        ({**own, 'class_file': file, 'classes': ['walk', 0]}, (['walk', 'clap'], file)),
        ({**own, 'data_root': folders}, (['clap', 'wave'], folders)),
        ({'type': 'X', 'data_root': folders}, (None, 'test')),  # not known to be class folders
        ({**own, 'data_root': folders, 'list_file': 'x'}, (None, 'test')),
        ({**own, 'class_file': 'nowhere.txt'}, (None, 'nowhere.txt')),
        ({'type': 'MixedDataset', 'datasets': [own, {**own, 'class_file': file}]}, (['clap', 'wave', 'walk'], file)),
        ({**own, 'data_root': str(data / 'empty')}, (None, str(data / 'empty'))),  # an empty mount point
        ({'type': 'MixedDataset', 'datasets': [own]}, (None, 'test')),
    ):
        assert find_class_names(dataset, 'test') == expected
