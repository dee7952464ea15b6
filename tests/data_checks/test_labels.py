import re

from dsanet.data_checks.labels import check_balance, check_flip, check_labels, check_unseen_classes
from dsanet.data_checks.run import quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.transforms import Flip
from tests.data_checks.conftest import findings, numbers, split


def test_correct_labels_have_no_findings() -> None:
    train = split([0, 1, 2, 0, 1, 2], class_names=['a', 'b', 'c'])
    assert quick_report([train, split([0, 1, 2], 'val')], seconds=0).of_level('warning') == []
    assert findings(check_labels(train)) == findings(check_balance(train)) == []


def test_labels_starting_at_1_are_recognized() -> None:
    found = next(check_labels(split([1, 2, 3, 1])))
    assert (found.level, numbers(found.text)[:2]) == ('error', ['1', '3'])
    assert 'num_classes=3' in found.text
    assert 'subtract 1' in found.text


def test_labels_starting_at_1_with_extra_class() -> None:
    missing, offset = check_balance(split([1, 2, 3], num_classes=4))
    assert (missing.level, missing.check, numbers(missing.text)) == ('warning', 'balance', ['1', '4'])
    assert (offset.level, offset.check) == ('warning', 'labels')
    assert 'num_classes=3' in offset.text


def test_too_large_labels_are_counted_and_named() -> None:
    finding = next(check_labels(split([0, 7, 2, 5])))
    assert numbers(finding.text)[0] == '2'
    assert 'num_classes=8' in finding.text
    assert finding.examples == ('train.txt:2: train/1.mp4: (7,)', 'train.txt:4: train/3.mp4: (5,)')


def test_several_labels_need_multi_hot() -> None:
    several = [VideoRecord('a', (0, 2), 'x.txt', 1)]
    assert findings(check_labels(Split('train', several, 3, multi_hot=3))) == []
    (found,) = check_labels(Split('train', several, 3))
    assert (found.level, 'multi_hot' in found.text) == ('error', True)
    assert findings(check_labels(Split('train', several, 3, multi_hot=4))) == [('error', 'labels', ['4', '3'])]


def test_class_names_and_steps_must_fit_the_model() -> None:
    assert findings(check_labels(split([0], class_names=['a', 'b']))) == [('error', 'labels', ['2', '3'])]
    swapping = split([0], steps=[Flip(swap_labels=((0, 5),))])
    assert findings(check_labels(swapping)) == [('error', 'labels', ['5', '3'])]


def test_empty_and_imbalanced_classes_are_warnings() -> None:
    found = list(check_balance(split([0] * 20 + [2] * 2, class_names=['a', 'b', 'c'])))
    assert [f.level for f in found] == ['warning', 'warning']
    assert (numbers(found[0].text), found[0].examples) == (['1', '3'], ("'b' (1)",))
    assert re.search(r"'a' \(0\).*\b20\b.*'c' \(2\).*\b2\b.*class_balance='square_root'", found[1].text)
    assert not [f for f in quick_report([split([0] * 20, 'val')], 0).findings if f.check == 'balance']
    assert 'class_weights' not in found[1].text  # which needs videos of every class
    (found,) = check_balance(split([0] * 20 + [1] * 2, num_classes=2))
    assert "class_weights='balanced'" in found.text
    several = [VideoRecord('a', (0, 1), 'x.txt', 1)] + [VideoRecord('b', (0,), 'x.txt', 2)] * 20
    (found,) = check_balance(Split('train', several, 2, multi_hot=2))
    assert 'class_weights' not in found.text
    balanced = split([0] * 20 + [1] * 2, num_classes=2, class_balance='equal')
    (found,) = check_balance(balanced)
    assert (found.level, "class_balance='equal'" in found.text) == ('note', True)
    (found,) = check_balance(split([0] * 20 + [1] * 2, num_classes=2, class_weights=[1, 10]))
    assert (found.level, 'class_weights' in found.text) == ('note', True)


def test_balanced_weights_require_every_class() -> None:
    (found,) = check_balance(split([0, 2], class_weights='balanced', class_names=['a', 'b', 'c']))
    assert (found.level, found.examples) == ('error', ("'b' (1)",))


def test_single_class_is_an_error() -> None:
    assert findings(check_balance(split([1, 1, 1])))[0][0] == 'error'


def test_validation_classes_without_training_videos_are_reported() -> None:
    found = next(check_unseen_classes([split([0, 1])], split([1, 2, 2], 'val')))
    assert (numbers(found.text), found.examples) == (['2', '3'], ('class 2: 2 videos',))


def test_different_class_names_are_an_error() -> None:
    train, val = (
        Split(name, split([0, 1]).records, 2, names) for name, names in (('train', ['a', 'b']), ('val', ['a', 'c']))
    )
    errors = quick_report([train, val]).of_level('error')
    assert any(re.search(r"\b1\b.*'b'.*train.*'c'.*val", finding.text) for finding in errors)


def test_flip_of_left_and_right_is_a_warning() -> None:
    names = ['move_left', 'Left then right', 'jump', 'right then left', 'move_right', 'bright', 'leftover']
    options = {'num_classes': 7, 'class_names': names}
    (found,) = check_flip(split([0, 1], steps=[Flip()], **options))
    assert (found.level, [numbers(text) for text in found.examples]) == ('warning', [['0', '4'], ['1', '3']])
    (found,) = check_flip(split([0, 1], steps=[Flip(swap_labels=((0, 4),))], **options))
    assert len(found.examples) == 1
    for steps in ([], [Flip(prob=0)], [Flip(swap_labels=((0, 4), (3, 1)))]):
        assert not list(check_flip(split([0, 1], steps=steps, **options)))
    assert not list(check_flip(split([0], steps=[Flip()])))
