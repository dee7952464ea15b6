"""The lists of UCF101 and HMDB51."""

from pathlib import Path

import pytest

from dsanet.data_tools.lists.ucf101_hmdb51 import read_hmdb51, read_ucf101


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def ucf101(folder: Path, train: str, test: str = '', classes: str = '1 YoYo\r\n2 Archery\r\n') -> dict[str, list[str]]:
    return {
        'classes': [write(folder, 'classInd.txt', classes)],
        'train': [write(folder, 'trainlist01.txt', train)],
        'test': [write(folder, 'testlist01.txt', test)],
    }


def test_ucf101_keeps_class_order_of_its_file(tmp_path: Path) -> None:
    files = ucf101(tmp_path, 'Archery/v_Archery_g08_c01.avi 2\r\n', 'YoYo/v_YoYo_g01_c01.avi\r\n')
    files['train'].append(write(tmp_path, 'trainlist02.txt', 'YoYo/v_YoYo_g08_c01.avi 1\n'))
    lists = read_ucf101(files)
    assert lists.class_names == ['YoYo', 'Archery']
    assert list(lists.splits) == ['train_split1', 'val_split1', 'train_split2']
    (train,), (val,) = lists.splits['train_split1'], lists.splits['val_split1']
    assert (train.names, train.classes) == (('Archery/v_Archery_g08_c01.avi', 'v_Archery_g08_c01.avi'), ('Archery',))
    assert (val.classes, val.source) == (('YoYo',), f'{files["test"][0]}:1')


@pytest.mark.parametrize(
    ('train', 'classes', 'message'),
    [
        ('Archery/v.avi\n', '1 Archery\n', "trainlist01.txt:1: .*'Archery/v.avi'.*class/video.avi number"),
        ('v.avi 1\n', '1 Archery\n', "trainlist01.txt:1: .*'v.avi 1'"),
        (f'Archery/v.avi {"9" * 5000}\n', '1 Archery\n', "trainlist01.txt:1: .*'Archery/v.avi 999"),
        ('Archery/v.avi 1\nArchery/w.avi 2\n', '1 Archery\n2 YoYo\n', r"txt:2: .*'Archery/w.avi 2'.*\b1\b"),
        ('Eating/v.avi 1\n', '1 Archery\n', r"trainlist01.txt:1: .*'Eating'.*\b1\b.*classInd.txt"),
        ('', '0 Archery\n', r"classInd.txt:1: .*'0 Archery'.*\b1\b"),
        ('', '1 Archery\n2 Archery\n', r"classInd.txt:2: .*'2 Archery'.*\b2\b"),
    ],
)
def test_ucf101_errors_name_file_and_line(tmp_path: Path, train: str, classes: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_ucf101(ucf101(tmp_path, train, classes=classes))


def test_ucf101_list_name_must_contain_the_split(tmp_path: Path) -> None:
    files = ucf101(tmp_path, '')
    files['train'] = [write(tmp_path, 'mine.txt', '')]
    with pytest.raises(ValueError, match='mine.txt: .*trainlist01.txt'):
        read_ucf101(files)


def test_hmdb51_reads_train_and_test_marks(tmp_path: Path) -> None:
    brush = '#437_How_to_brush_hair_0.avi 1 \nno_use.avi 0 \nApril_09_brush_hair_0.avi 2 \n'
    files = [write(tmp_path, f'wave_test_split{n}.txt', 'wave one.avi 2\n') for n in (1, 2)]
    files += [write(tmp_path, f'brush_hair_test_split{n}.txt', brush) for n in (1, 2)]
    lists = read_hmdb51({'splits': files})
    assert lists.class_names == ['brush_hair', 'wave']
    assert list(lists.splits) == ['train_split1', 'val_split1', 'train_split2', 'val_split2']
    assert [(v.names, v.classes) for v in lists.splits['train_split1']] == [
        (('brush_hair/#437_How_to_brush_hair_0.avi',), ('brush_hair',))
    ]
    assert [v.names for v in lists.splits['val_split2']] == [
        ('brush_hair/April_09_brush_hair_0.avi',),
        ('wave/wave one.avi',),
    ]
    assert lists.splits['val_split1'][0].source == f'{files[2]}:3'


def test_hmdb51_errors_name_file_and_line(tmp_path: Path) -> None:
    wave = write(tmp_path, 'wave_test_split1.txt', 'a.avi 1\nb.avi 3\n')
    with pytest.raises(ValueError, match=r"wave_test_split1.txt:2: .*'b.avi 3'.*\b0, 1 or 2"):
        read_hmdb51({'splits': [wave]})
    with pytest.raises(ValueError, match='train.txt: .*brush_hair_test_split1.txt'):
        read_hmdb51({'splits': [write(tmp_path, 'train.txt', '')]})
    files = [write(tmp_path, name, 'a.avi 1\n') for name in ('wave_test_split1.txt', 'kiss_test_split1.txt')]
    files.append(write(tmp_path, 'wave_test_split2.txt', 'a.avi 1\n'))
    with pytest.raises(ValueError, match=r'kiss_test_split2.txt.*\b1\b'):
        read_hmdb51({'splits': files})
