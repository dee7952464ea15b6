import json
import logging
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from codes.datasets import health
from codes.datasets.annotation import VideoRecord
from codes.datasets.health import (
    Finding,
    Looked,
    Report,
    Split,
    announce,
    find_file,
    full_report,
    look_for_files,
    quick_report,
    read_split,
    read_whole_list,
    splits_of,
    spread_order,
)
from codes.datasets.inspection import FileFacts, Job
from codes.datasets.transforms import (
    CenterCrop,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    RandomResizedCrop,
    Resize,
    SampleSegments,
    SampleSnippets,
)
from codes.datasets.video_datasets import VideoDataset
from tests.make_videos import write_frames


def records(labels: list[int], name: str = 'train', num_frames: int | None = None) -> list[VideoRecord]:
    return [VideoRecord(f'{name}/{i}.mp4', (k,), f'{name}.txt', i + 1, num_frames) for i, k in enumerate(labels)]


def split(labels: list[int], name: str = 'train', num_classes: int | None = 3, **options: object) -> Split:
    return Split(name, records(labels, name), num_classes, **options)


def findings(check: object) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in check]


def facts(split: Split, **changes: dict) -> dict[Job, FileFacts]:
    """Facts of a split's videos, all alike but for ``v<number>``."""
    usual = {'num_frames': 50, 'height': 240, 'width': 320, 'fps': 25.0}
    return {
        split.job_of(record): FileFacts(record.path, **{**usual, **changes.get(f'v{i}', {})})
        for i, record in enumerate(split.records)
    }


# -- labels ------------------------------------------------------------------------------------------------------------


def test_right_labels_are_no_finding() -> None:
    train = split([0, 1, 2, 0, 1, 2], class_names=['a', 'b', 'c'])
    assert quick_report([train, split([0, 1, 2], 'val')], seconds=0).of_level('warning') == []
    assert findings(health.check_labels(train)) == findings(health.check_balance(train)) == []


def test_labels_from_1_on_are_recognised() -> None:
    level, text = findings(health.check_labels(split([1, 2, 3, 1])))[0]
    assert level == 'error'
    assert text.startswith('1 video with a label that the model lacks: num_classes=3 allows 0 to 2, the largest label')
    assert 'they look counted from 1; subtract 1 from each' in text


def test_labels_from_1_on_are_suspected_behind_a_class_too_many() -> None:
    found = findings(health.check_balance(split([1, 2, 3], num_classes=4)))
    assert found == [
        ('warning', '1 of 4 classes have no video, so they cannot be learnt'),
        (
            'warning',
            'no video has label 0: if labels were counted from 1, subtract 1 from each and set num_classes=3',
        ),
    ]


def test_too_large_labels_are_counted_and_named() -> None:
    finding = next(health.check_labels(split([0, 7, 2, 5])))
    assert finding.text.startswith('2 videos with a label')
    assert finding.text.endswith('the largest label is 7. Is num_classes=8 meant?')
    assert finding.examples == ('train.txt:2: train/1.mp4: (7,)', 'train.txt:4: train/3.mp4: (5,)')


def test_several_labels_need_multi_hot() -> None:
    several = [VideoRecord('a', (0, 2), 'x.txt', 1)]
    assert findings(health.check_labels(Split('train', several, 3, multi_hot=3))) == []
    assert 'with several labels' in findings(health.check_labels(Split('train', several, 3)))[0][1]
    assert findings(health.check_labels(Split('train', several, 3, multi_hot=4))) == [
        ('error', 'multi_hot=4 is the number of classes, but the model has num_classes=3')
    ]


def test_class_names_and_steps_must_fit_the_model() -> None:
    assert 'there are 2 class names' in findings(health.check_labels(split([0], class_names=['a', 'b'])))[0][1]
    swapping = split([0], steps=[Flip(swap_labels=((0, 5),))])
    assert 'a step of the pipeline is about class 5' in findings(health.check_labels(swapping))[0][1]


def test_classes_without_videos_and_unequal_classes_are_warnings() -> None:
    found = list(health.check_balance(split([0] * 20 + [2] * 2, class_names=['a', 'b', 'c'])))
    assert [f.level for f in found] == ['warning', 'warning']
    assert found[0].text == '1 of 3 classes have no video, so they cannot be learnt'
    assert found[0].examples == ("'b' (1)",)
    assert "'a' (0) has 20 videos, 'c' (2) 2" in found[1].text
    assert not [f for f in quick_report([split([0] * 20, 'val')], 0).findings if f.check == 'balance']
    balanced = split([0] * 20 + [1] * 2, num_classes=2, sampling='balanced')
    assert [f.level for f in health.check_balance(balanced)] == ['note']


def test_a_single_class_is_an_error() -> None:
    assert findings(health.check_balance(split([1, 1, 1])))[0][0] == 'error'


def test_validated_classes_must_be_trained() -> None:
    found = next(health.check_classes_of([split([0, 1])], split([1, 2, 2], 'val')))
    assert found.text == '2 of 3 videos are of classes that no training video has'
    assert found.examples == ('class 2: 2 videos',)


# -- repeats and overlap -----------------------------------------------------------------------------------------------


def test_repeated_paths_are_found_however_they_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ['a/b.mp4', './a/b.mp4', 'a//b.mp4', f'{tmp_path}/a/b.mp4', 'a/c/../b.mp4', 'a/d.mp4', 'a/e/', 'a/e']
    same = Split('train', [VideoRecord(path, (0,), 'x.txt', i) for i, path in enumerate(paths, 1)])
    assert Counter(same.keys) == {f'{tmp_path}/a/b.mp4': 5, f'{tmp_path}/a/d.mp4': 1, f'{tmp_path}/a/e': 2}
    found = next(health.check_repeats(same))
    assert (found.level, found.text) == ('warning', '2 videos listed more than once')
    assert found.examples[0].startswith('x.txt:1 (label 0), x.txt:2 (label 0), x.txt:3')


def test_repeats_that_contradict_each_other_are_told_apart() -> None:
    twice = [VideoRecord(path, (k,), 'x.txt', k + 1) for path, k in (('a', 0), ('a', 1), ('b', 2), ('b', 2), ('c', 0))]
    assert findings(health.check_repeats(Split('train', twice))) == [
        ('warning', '1 video listed more than once, with different labels'),
        ('warning', '1 video listed more than once'),
    ]


def test_overlap_is_found_by_path() -> None:
    train = split([0, 1, 2])
    val = Split('val', [train.records[2], *records([0, 1, 2], 'val')], 3)
    found = next(health.check_overlap(train, val))
    assert found.split == 'train and val'
    assert found.text.startswith('1 of 4 videos (25 %) are also trained on, which')
    assert not list(health.check_overlap(train, split([0], 'val')))


@pytest.mark.parametrize('kind', ['symbolic link', 'hard link', 'linked folder', 'frames in a linked folder'])
def test_overlap_is_found_behind_links(tmp_path: Path, kind: str) -> None:
    (tmp_path / 'train').mkdir()
    options, frames = {}, None
    if kind.startswith('frames'):
        options, frames = {'filename_tmpl': 'img_{:05d}.jpg'}, 2
        for name in 'ab':
            write_frames(tmp_path / 'train' / name, 2)
    else:
        for name in 'ab':
            (tmp_path / 'train' / name).write_text(name)
    if kind.endswith('folder'):
        (tmp_path / 'val').symlink_to('train')
    else:
        (tmp_path / 'val').mkdir()
        val = tmp_path / 'val' / 'b'
        link = val.symlink_to if kind == 'symbolic link' else val.hardlink_to
        link(tmp_path / 'train' / 'b')
    (tmp_path / 'other').mkdir()
    if not frames:
        (tmp_path / 'other' / 'a').write_text('c')
    else:
        write_frames(tmp_path / 'other' / 'a', 2)
    train, val = (
        Split(
            name,
            [VideoRecord(str(tmp_path / p), (n % 2,), f'{name}.txt', n + 1, frames) for n, p in enumerate(paths)],
            2,
            **options,
        )
        for name, paths in (('train', ['train/a', 'train/b']), ('val', ['other/a', 'val/b']))
    )
    digests = {'v0': {'digest': 'x'}, 'v1': {'digest': 'y'}}
    known = {**facts(train, **digests), **facts(val, v1={'digest': 'y'})}
    identities = {
        one.job_of(record): found
        for one in (train, val)
        for record in one.records
        if (found := find_file(record, one.filename_tmpl)[0]) is not None
    }
    for report in (quick_report([train, val]), full_report([train, val], known, identities)):
        found = [finding for finding in report.findings if finding.level != 'note']
        assert [(f.level, f.check, f.split) for f in found] == [('warning', 'links', 'train and val')]
        assert found[0].text.startswith('1 of 2 videos (50 %) are also trained on under another path (a link), which')
        assert found[0].examples == (f'val.txt:2 and train.txt:2: {tmp_path}/val/b is {tmp_path}/train/b',)


def test_what_one_path_leads_to_is_not_told_twice(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('a')
    train, val = (
        Split(name, [VideoRecord(str(tmp_path / 'a'), (0,), f'{name}.txt', 1)], 1) for name in ('train', 'val')
    )
    assert [f.check for f in quick_report([train, val]).findings] == ['overlap']


def test_overlap_is_found_by_content() -> None:
    train, val = split([0, 1]), split([0, 1, 1], 'val')
    known = {**facts(train, v0={'digest': 'x'}, v1={'digest': 'y'}), **facts(val, v1={'digest': 'y'})}
    report = full_report([train, val], known)
    found = [f for f in report.findings if f.check == 'same_content']
    assert [f.text[:50] for f in found] == ['1 of 3 videos (33.3 %) are also trained on with th']
    assert found[0].examples == ('val.txt:2 and train.txt:2: val/1.mp4',)


def test_copies_inside_a_split_are_found_by_content() -> None:
    train = split([0, 1, 1, 0])
    known = facts(train, v0={'digest': 'x'}, v1={'digest': 'x'}, v2={'digest': 'z'}, v3={'digest': None})
    found = [f for f in full_report([train], known).findings if f.check == 'same_content']
    assert [f.text for f in found] == ['1 video that is there again under another name, with different labels']


# -- lengths and resolutions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('step', 'needed'),
    [(SampleSnippets(4, 4, 4), 19), (SampleSnippets(4, 4, 4, num_groups=2), 23), (SampleSegments(1, 8), 8)],
)
def test_so_many_frames_give_each_snippet_its_own(step: object, needed: int) -> None:
    assert Split('val', [], steps=[step]).needed_frames == needed
    record = {'rng': np.random.default_rng(0)}
    indices = [step({**record, 'num_frames': n})['frame_indices'] for n in (needed - 1, needed)]
    if isinstance(step, SampleSnippets):
        indices = [i[..., 0] for i in indices]  # where snippets begin
    assert [len(np.unique(i)) == i.size for i in indices] == [False, True]


def test_short_videos_are_a_warning_if_they_are_many() -> None:
    train = split([0, 1] * 10, steps=[SampleSnippets(4, 4, 4)])
    few = facts(train, v3={'num_frames': 18}, v4={'num_frames': 19})
    found = [f for f in full_report([train], few).findings if f.check == 'length']
    assert [(f.level, f.examples) for f in found] == [('note', ('train.txt:4: train/3.mp4: 18 frames',))]
    many = facts(train, **{f'v{i}': {'num_frames': 5} for i in range(3)})
    assert [f.level for f in full_report([train], many).findings if f.check == 'length'] == ['warning']


def test_lengths_of_frame_folders_need_no_inspection() -> None:
    frames = Split('train', records([0, 1, 0], num_frames=10), 3, steps=[SampleSnippets(4, 4, 4)])
    report = quick_report([frames], seconds=0)
    assert [f.text[:31] for f in report.findings if f.check == 'length'] == ['3 of 3 videos have fewer than t']
    assert report.splits['train']['frames'] == (10, 10, 10)


def test_splits_may_open_the_same_video_differently() -> None:
    steps = [SampleSnippets(4, 4, 4)]
    train, val = (
        Split(name, records([0, 1, 0], num_frames=n), 3, steps=steps, filename_tmpl='{}.jpg')
        for name, n in (('train', 10), ('val', 40))
    )
    for both in ([train, val], [val, train]):
        reports = [quick_report(both, seconds=0)]
        reports.append(
            full_report(
                both,
                {
                    **facts(train, **dict.fromkeys(('v0', 'v1', 'v2'), {'num_frames': 10})),
                    **facts(val, **dict.fromkeys(('v0', 'v1', 'v2'), {'num_frames': 40})),
                },
            )
        )
        for report in reports:
            assert [f.split for f in report.findings if f.check == 'length'] == ['train']
            assert report.splits['train']['frames'] == (10, 10, 10)
            assert report.splits['val']['frames'] == (40, 40, 40)


def test_odd_resolutions_are_named() -> None:
    train = split([0, 1, 2, 0], steps=[Resize(256), CenterCrop(224)])
    known = facts(
        train,
        v0={'height': 100},
        v1={'height': 500, 'width': 300},
        v2={'height': 300, 'width': 900},
        v3={'height': 256},
    )
    found = {f.text: (f.level, f.examples) for f in full_report([train], known).findings if f.check == 'resolution'}
    assert found == {
        '1 of 4 videos are smaller than the 256 pixels that they are enlarged to': (
            'warning',
            ('train.txt:1: train/0.mp4: 320x100',),
        ),
        '2 of 4 videos are so long or so high that a centre crop sees little of them': (
            'warning',
            ('train.txt:1: train/0.mp4: 320x100', 'train.txt:3: train/2.mp4: 900x300'),
        ),
        '1 of 4 videos are upright, the others are not': ('note', ('train.txt:2: train/1.mp4: 300x500',)),
    }


def test_the_size_of_a_random_crop_is_a_size_to_reach() -> None:
    assert Split('train', [], steps=[RandomResizedCrop((112, 128)), Flip()]).short_side == 112
    assert Split('train', [], steps=[Flip()]).short_side == 0


# -- files -------------------------------------------------------------------------------------------------------------


def test_every_beginning_of_the_order_is_spread() -> None:
    for length in (1, 7, 1000):
        order = spread_order(length)
        assert sorted(order) == list(range(length))
    for beginning in (10, 50, 200):
        counts = np.histogram(spread_order(1000)[:beginning], bins=5, range=(0, 1000))[0]
        assert counts.max() - counts.min() <= 2


def test_files_are_looked_for_as_long_as_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(health, 'find_file', lambda record, *_: (asked.append(time.sleep(0.001)), None))
    assert look_for_files(split([0] * 50), seconds=None) == Looked(50, [], {})
    looked = look_for_files(split([0] * 5000), seconds=0.05)
    assert looked.bad == []
    assert 20 <= looked.num_videos < 200
    assert look_for_files(split([0] * 50), seconds=0).num_videos == 20
    assert len(asked) == 50 + looked.num_videos + 20


def test_missing_and_empty_files_are_told(tmp_path: Path) -> None:
    (tmp_path / 'a.mp4').write_bytes(b'x')
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'folder').mkdir()
    said = {name: find_file(VideoRecord(str(tmp_path / name), (0,), 'x'))[1] for name in ('a.mp4', 'no', 'folder')}
    assert said['a.mp4'] is None
    assert said['no'] == f'{tmp_path}/no: No such file or directory'
    assert said['folder'] == f'{tmp_path}/folder: a folder, where a file was expected'
    assert 'empty file' in str(find_file(VideoRecord(str(tmp_path / 'empty.mp4'), (0,), 'x'))[1])


def test_first_and_last_frame_of_a_folder_are_looked_for(tmp_path: Path) -> None:
    write_frames(tmp_path / 'v', 5, start_index=0)
    record = VideoRecord(str(tmp_path / 'v'), (0,), 'x', 1, 5)
    assert find_file(record, 'img_{:05d}.jpg', 0)[1] is None
    assert 'img_00005.jpg: No such file' in str(find_file(record, 'img_{:05d}.jpg', 1)[1])


def test_bad_files_are_errors_beyond_the_share_that_a_run_takes() -> None:
    bad = [FileFacts('train/1.mp4', 'missing', 'gone'), FileFacts('train/2.mp4', 'hung', 'slow')]
    for share, level, said in (
        (0.0, 'error', ', which ends a run'),
        (0.4, 'error', '; that is too much for max_bad_share=0.4'),
        (0.5, 'warning', '; training takes others instead'),
    ):
        found = list(health.check_files(split([0] * 4, max_bad_share=share), bad, 4))
        assert [f.level for f in found] == [level, level]
        assert [f.check for f in found] == ['files_missing', 'files_hung']
        assert found[0].text == f'1 of 4 videos are missing or empty{said}'
    assert found[0].examples == ('train.txt:2: gone',)


def test_a_wrong_data_root_is_suspected_where_nothing_is_there(tmp_path: Path) -> None:
    report = quick_report([split([0, 1, 2])])
    assert 'none of the 3 videos looked for is there; is data_root right?' in report.text()
    assert not report.is_fit


def test_crashed_unreadable_and_odd_files_are_findings() -> None:
    train = split([0, 1, 2, 0])
    known = facts(
        train,
        v0={'kind': 'crashed', 'error': 'SIGSEGV'},
        v1={'kind': 'unreadable', 'error': 'no video'},
        v2={'warning': 'two frames are missing'},
    )
    found = [f for f in full_report([train], known).findings if f.check.startswith('files')]
    assert [f.check for f in found] == ['files_unreadable', 'files_crashed', 'files_odd']
    assert found[2].examples == ('train.txt:3: train/2.mp4: two frames are missing',)


# -- lists and data sets -----------------------------------------------------------------------------------------------


def test_all_wrong_lines_of_a_list_are_named(tmp_path: Path) -> None:
    file = tmp_path / 'list.txt'
    file.write_text('a.mp4 0\nb.mp4\n\n# c\nd e.mp4 1\nf,1\ng.mp4 x\nh.mp4 2\n')
    found, wrong = read_whole_list('train', str(file), 'root', with_num_frames=False)
    assert [(r.path, r.label, r.source) for r in found] == [
        ('root/a.mp4', 0, f'{file}:1'),
        ('root/d e.mp4', 1, f'{file}:5'),
        ('root/h.mp4', 2, f'{file}:8'),
    ]
    assert [f.text for f in wrong] == [f'{file}: 3 wrong lines']
    assert [example.split(': ')[0] for example in wrong[0].examples] == [f'{file}:{line}' for line in (2, 6, 7)]
    assert 'not by commas' in wrong[0].examples[1]


def test_a_right_list_has_no_wrong_lines(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a 7 0\n')
    found, wrong = read_whole_list('train', str(tmp_path / 'list.txt'), None, with_num_frames=True)
    assert ([r.num_frames for r in found], wrong) == ([7], [])


def test_a_file_that_is_no_list_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, 'MOST_WRONG_LINES', 4)
    (tmp_path / 'list.txt').write_text('word\n' * 10)
    found, wrong = read_whole_list('train', str(tmp_path / 'list.txt'), None, with_num_frames=False)
    assert found == []
    assert wrong[0].text.endswith('4 wrong lines')
    assert wrong[0].examples[-1].endswith('the lines behind were not read')
    (tmp_path / 'list.txt').write_text('# nothing\n')
    _, wrong = read_whole_list('train', str(tmp_path / 'list.txt'), None, with_num_frames=False)
    assert wrong[0].text.endswith('it is no list of videos')


PIPELINE = [
    {'type': 'OpenVideo', 'decoder': 'pyav'},
    {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2},
    {'type': 'DecodeVideo'},
    {'type': 'PackInputs'},
]


def test_a_data_set_becomes_a_split(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    (tmp_path / 'names.txt').write_text('x\ny\n')
    steps = [OpenVideo('pyav'), SampleSnippets(2, 2), DecodeVideo(), PackInputs()]
    dataset = VideoDataset(steps, str(tmp_path / 'list.txt'), class_file=str(tmp_path / 'names.txt'))
    (one,) = splits_of('train', dataset, 2)
    assert (one.name, one.num_classes, one.decoder, one.filename_tmpl) == ('train', 2, 'pyav', None)
    assert (one.class_name(1), one.class_name(2), one.needed_frames) == ("'y' (1)", 'class 2', 3)
    cfg = {
        'type': 'VideoDataset',
        'list_file': str(tmp_path / 'list.txt'),
        'class_file': str(tmp_path / 'names.txt'),
        'pipeline': PIPELINE,
    }
    (same,) = read_split('train_dataloader', {'dataset': cfg, 'batch_size': 9}, 2)
    assert (same.records, same.counts, same.class_names) == (one.records, one.counts, one.class_names)


def test_a_data_set_whose_list_is_wrong_is_read_as_far_as_it_is_right(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a 5 0\nb 1\nc 9 1\n')
    (tmp_path / 'names.txt').write_text('x\ny\n')
    cfg = {
        'type': 'RawFramesDataset',
        'list_file': str(tmp_path / 'list.txt'),
        'class_file': str(tmp_path / 'names.txt'),
        'start_index': 0,
        'pipeline': [PIPELINE[1], {'type': 'DecodeRawFrames'}, PIPELINE[3]],
    }
    (one,) = read_split('val_dataloader', {'dataset': cfg}, 2)
    assert [(r.path, r.num_frames) for r in one.records] == [('a', 5), ('c', 9)]
    assert (one.filename_tmpl, one.start_index, one.class_names) == ('img_{:05d}.jpg', 0, ['x', 'y'])
    assert [f.level for f in one.findings] == ['error']
    cfg['list_file'] = str(tmp_path / 'nowhere.txt')
    (none,) = read_split('val_dataloader', {'dataset': cfg}, 2)
    assert none.records == []
    assert 'no list file' in none.findings[0].text


def test_what_is_left_of_a_wrong_list_has_the_classes_and_the_sampling_that_training_has(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\nc.mp4 2\nd.mp4 7\ne.mp4\n')
    (tmp_path / 'names.txt').write_text(''.join(f'{name}\n' for name in 'stuvwxyz'))
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE, 'classes': ['z', 't']}
    cfg['class_file'] = str(tmp_path / 'names.txt')
    (one,) = read_split('train_dataloader', {'dataset': cfg, 'sampling': 'balanced'}, 2)
    assert [(r.path, r.label) for r in one.records] == [('b.mp4', 1), ('d.mp4', 0)]
    assert (one.class_names, one.sampling) == (['z', 't'], 'balanced')
    assert [f.check for f in quick_report([one], seconds=0).findings] == ['files_missing', 'list'][::-1]
    (none,) = read_split('train_dataloader', {'dataset': {**cfg, 'classes': ['zz']}}, 2)
    assert (none.records, [f.check for f in none.findings]) == ([], ['list', 'list'])
    assert "classes has 'zz', which is none of the 8 classes" in none.findings[1].text
    mixed = {'type': 'MixedDataset', 'datasets': [cfg, {**cfg, 'list_file': str(tmp_path / 'good.txt')}]}
    (tmp_path / 'good.txt').write_text('f.mp4 1\n')
    splits = read_split('train_dataloader', {'dataset': mixed, 'sampling': 'square_root'}, 2)
    assert [(s.sampling, len(s.records)) for s in splits] == [('square_root', 2), ('square_root', 1)]


def test_bad_videos_are_judged_as_the_loader_treats_them(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    shares = {}
    for name, options in (
        ('train_dataloader', {}),
        ('train_dataloader', {'max_bad_share': 0.5}),
        ('train_dataloader', {'on_error': 'raise'}),
        ('val_dataloader', {}),
    ):
        (one,) = read_split(name, {'dataset': cfg, **options}, 2)
        shares[(name, *options)] = one.max_bad_share
    assert list(shares.values()) == [0.2, 0.5, 0.0, 0.0]
    (even,) = read_split('train_dataloader', {'dataset': cfg, 'sampling': 'balanced'}, 2)
    assert even.sampling == 'balanced'


def test_each_part_of_a_mixture_is_a_split(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('a.mp4 0\nb.mp4 1\n')
    (tmp_path / 'b.txt').write_text('c.mp4 2\n')
    parts = [{'type': 'VideoDataset', 'list_file': str(tmp_path / f), 'pipeline': PIPELINE} for f in ('a.txt', 'b.txt')]
    section = {'dataset': {'type': 'MixedDataset', 'datasets': parts, 'weights': [1, 2]}}
    splits = read_split('train_dataloader', section, 3)
    assert [(s.name, len(s.records), s.max_bad_share, s.is_training) for s in splits] == [
        ('train.0', 2, 0.2, True),
        ('train.1', 1, 0.2, True),
    ]
    assert not [
        f for f in quick_report(splits, 0).findings if f.check in ('balance', 'labels')
    ]  # of all parts together
    (tmp_path / 'b.txt').write_text('c.mp4 2\nno label\n')
    splits = read_split('train_dataloader', section, 3)
    assert [(s.name, len(s.records), len(s.findings)) for s in splits] == [('train.0', 2, 0), ('train.1', 1, 1)]


def test_a_wrong_pipeline_is_no_finding_but_an_error(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a 0\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': [{'type': 'OpenVideo'}]}
    cfg['pipeline'] = [{'type': 'OpenVideo', 'decoder': 'eyes'}]
    with pytest.raises(ValueError, match="unknown decoder='eyes'"):
        read_split('val_dataloader', {'dataset': cfg}, 2)


# -- reports -----------------------------------------------------------------------------------------------------------


def test_what_validation_and_test_share_is_said_once() -> None:
    val = split([0, 5], 'val')
    test = Split('test', val.records, 3)
    report = quick_report([split([0, 1, 2]), val, test])
    assert [f.split for f in report.findings if f.check == 'labels'] == ['val']
    assert list(report.splits) == ['train', 'val', 'test']


def test_report_as_text_and_as_json() -> None:
    train = split([0, 1, 2, 0])
    report = full_report([train], facts(train, v0={'kind': 'unreadable', 'error': 'broken'}))
    lines = report.text().splitlines()
    assert lines[0] == 'NOT fit to train: 1 error (full form)'
    assert lines[2] == (
        'train   4 videos of 3 classes, 1 to 2 a class, 50 frames (median 50), 2.0 to 2.0 s (median 2.0)'
    )
    assert lines[4:] == [
        'errors',
        '  train: 1 of 4 videos cannot be read, which ends a run',
        '      train.txt:1: broken',
    ]
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain['fit'] is False
    assert plain['splits']['train']['histogram'] == {'0': 2, '1': 1, '2': 1}
    assert plain['splits']['train']['resolutions'] == {'320x240': 3}
    assert plain['findings'][0]['examples'] == ['train.txt:1: broken']


def test_text_shows_a_few_examples_only() -> None:
    finding = Finding('note', 'x', 'val', 'many', tuple(map(str, range(12))))
    assert str(finding).splitlines() == ['val: many', *(f'    {i}' for i in range(5)), '    and 7 more']


def test_errors_come_first() -> None:
    found = [Finding(level, 'x', 'val', level) for level in ('note', 'error', 'warning', 'error')]
    assert [f.level for f in health._sorted(found)] == ['error', 'warning', 'note']  # the second error is the first


def test_announce_logs_warnings_and_raises_errors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {'train': {'videos': 3, 'classes': 2, 'videos_per_class': (1, 2)}}
    warning = Finding('warning', 'x', 'train', 'look out', ('a', 'b'))
    monkeypatch.setattr(logging.getLogger('codes'), 'propagate', True)
    with caplog.at_level(logging.INFO, logger='codes'):
        announce(Report('quick', numbers, [warning, Finding('note', 'x', 'train', 'never mind')]))
    assert caplog.messages == ['train: 3 videos of 2 classes, 1 to 2 a class', 'train: look out, such as a']
    with pytest.raises(ValueError, match='not fit to train on; --no-check trains nevertheless\ntrain: no'):
        announce(Report('quick', numbers, [Finding('error', 'x', 'train', 'no'), warning]))


def test_quick_form_takes_hundreds_of_thousands_of_lines() -> None:
    train, val = split([i % 400 for i in range(250_000)], num_classes=400), split([1] * 9, 'val', num_classes=400)
    started = time.process_time()
    report = quick_report([train, val], seconds=0.5)
    # Seconds on a machine that does nothing else; this is the processor's time, and generous.
    assert time.process_time() - started < 6
    assert report.splits['train']['videos_per_class'] == (625, 625)
    assert 'of 250,000 videos were looked for, spread over the list; none was opened' in report.notes[0]


def test_names_that_are_no_utf8_can_be_reported() -> None:
    odd = Split('train', [VideoRecord('wei\udcdf.mp4', (0,), 'x.txt', i) for i in (1, 2)], 3)
    report = quick_report([odd], seconds=0)
    assert r'x.txt:2 (label 0): wei\udcdf.mp4' in report.text()
    assert report.text().encode()
    with pytest.raises(ValueError, match=r'wei\\udcdf'):
        announce(report)
    assert json.dumps(report.to_dict())
