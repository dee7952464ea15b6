from dsanet.data_checks.labels import check_balance, check_classes_of, check_labels
from dsanet.data_checks.run import quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord
from dsanet.datasets.transforms import Flip
from tests.data_checks.conftest import findings, split


def test_right_labels_are_no_finding() -> None:
    train = split([0, 1, 2, 0, 1, 2], class_names=['a', 'b', 'c'])
    assert quick_report([train, split([0, 1, 2], 'val')], seconds=0).of_level('warning') == []
    assert findings(check_labels(train)) == findings(check_balance(train)) == []


def test_labels_from_1_on_are_recognized() -> None:
    level, text = findings(check_labels(split([1, 2, 3, 1])))[0]
    assert level == 'error'
    assert text.startswith('1 video with a label that the model lacks: num_classes=3 allows 0 to 2, the largest label')
    assert 'they look counted from 1; subtract 1 from each' in text


def test_labels_from_1_on_are_suspected_behind_a_class_too_many() -> None:
    found = findings(check_balance(split([1, 2, 3], num_classes=4)))
    assert found == [
        ('warning', '1 of 4 classes have no video, so they cannot be learned'),
        (
            'warning',
            'no video has label 0: if labels were counted from 1, subtract 1 from each and set num_classes=3',
        ),
    ]


def test_too_large_labels_are_counted_and_named() -> None:
    finding = next(check_labels(split([0, 7, 2, 5])))
    assert finding.text.startswith('2 videos with a label')
    assert finding.text.endswith('the largest label is 7. Is num_classes=8 meant?')
    assert finding.examples == ('train.txt:2: train/1.mp4: (7,)', 'train.txt:4: train/3.mp4: (5,)')


def test_several_labels_need_multi_hot() -> None:
    several = [VideoRecord('a', (0, 2), 'x.txt', 1)]
    assert findings(check_labels(Split('train', several, 3, multi_hot=3))) == []
    assert 'with several labels' in findings(check_labels(Split('train', several, 3)))[0][1]
    assert findings(check_labels(Split('train', several, 3, multi_hot=4))) == [
        ('error', 'multi_hot=4 is the number of classes, but the model has num_classes=3')
    ]


def test_class_names_and_steps_must_fit_the_model() -> None:
    assert 'there are 2 class names' in findings(check_labels(split([0], class_names=['a', 'b'])))[0][1]
    swapping = split([0], steps=[Flip(swap_labels=((0, 5),))])
    assert 'a step of the pipeline is about class 5' in findings(check_labels(swapping))[0][1]


def test_classes_without_videos_and_unequal_classes_are_warnings() -> None:
    found = list(check_balance(split([0] * 20 + [2] * 2, class_names=['a', 'b', 'c'])))
    assert [f.level for f in found] == ['warning', 'warning']
    assert found[0].text == '1 of 3 classes have no video, so they cannot be learned'
    assert found[0].examples == ("'b' (1)",)
    assert "'a' (0) has 20 videos, 'c' (2) 2" in found[1].text
    assert not [f for f in quick_report([split([0] * 20, 'val')], 0).findings if f.check == 'balance']
    balanced = split([0] * 20 + [1] * 2, num_classes=2, class_balance='equal')
    assert [f.level for f in check_balance(balanced)] == ['note']


def test_a_single_class_is_an_error() -> None:
    assert findings(check_balance(split([1, 1, 1])))[0][0] == 'error'


def test_validated_classes_must_be_trained() -> None:
    found = next(check_classes_of([split([0, 1])], split([1, 2, 2], 'val')))
    assert found.text == '2 of 3 videos are of classes that no training video has'
    assert found.examples == ('class 2: 2 videos',)


def test_labels_of_other_classes_are_an_error() -> None:
    train, val = (
        Split(name, split([0, 1]).records, 2, names) for name, names in (('train', ['a', 'b']), ('val', ['a', 'c']))
    )
    errors = quick_report([train, val]).of_level('error')
    assert any("class 1 is 'b' in train, but 'c' in val" in finding.text for finding in errors)
