import re
from pathlib import Path

from dsanet.data_checks.files import check_files
from dsanet.data_checks.probe import ProbeResult
from dsanet.data_checks.reading import splits_of
from dsanet.data_checks.run import full_report, quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.transforms import (
    CenterCrop,
    DecodeRawFrames,
    DecodeVideo,
    OpenVideo,
    PackInputs,
    Resize,
    SampleSnippets,
)
from dsanet.datasets.video_datasets import RawFramesDataset, VideoDataset
from tests.data_checks.conftest import facts, numbers, records, split


def test_bad_files_above_max_bad_share_are_errors() -> None:
    bad = [ProbeResult('train/1.mp4', 'missing', 'gone'), ProbeResult('train/2.mp4', 'hung', 'slow')]
    for share, level, text in (
        (0.0, 'error', '^1 of 4 '),
        (0.4, 'error', r'^1 of 4 .*max_bad_share=0\.4'),
        (0.5, 'warning', '^1 of 4 .*training'),
    ):
        found = list(check_files(split([0] * 4, max_bad_share=share), bad, 4))
        assert [(f.level, f.check) for f in found] == [(level, 'files_missing'), (level, 'files_hung')]
        assert re.search(text, found[0].text)
    assert found[0].examples == ('train.txt:2: gone',)


def test_wrong_data_root_is_suspected(tmp_path: Path) -> None:
    report = quick_report([split([0, 1, 2])])
    assert re.search(r'\b3\b.*data_root', report.text())
    assert not report.is_fit


def hint_for_missing(dataset: VideoDataset | RawFramesDataset) -> str:
    """Return the hint of the quick check for a dataset without any existing video; '' for none."""
    report = quick_report(splits_of('train', dataset, 2))
    return next(f.text for f in report.findings if f.check == 'files_missing').partition('data_root')[2]


def test_frame_list_read_as_videos_is_recognized(tmp_path: Path) -> None:
    (tmp_path / 'frames' / 'some clip').mkdir(parents=True)
    (tmp_path / 'list.txt').write_text('some clip 40 0\nsome clip 40 1\n')
    pipeline = [OpenVideo(), SampleSnippets(1, 1), DecodeVideo(), PackInputs()]
    arguments = pipeline, str(tmp_path / 'list.txt')
    assert 'RawFramesDataset' in hint_for_missing(VideoDataset(*arguments, str(tmp_path / 'frames')))
    # The folders may also be next to the list.
    (tmp_path / 'frames' / 'some clip').rename(tmp_path / 'some clip')
    assert 'RawFramesDataset' in hint_for_missing(VideoDataset(*arguments, str(tmp_path / 'frames')))
    (tmp_path / 'some clip').rename(tmp_path / 'other')
    assert hint_for_missing(VideoDataset(*arguments)) == ''


def test_paths_relative_to_list_are_recognized(tmp_path: Path) -> None:
    (tmp_path / 'videos').mkdir()
    for name, end in (('a.mp4', '0'), ('b', '3 0')):
        (tmp_path / 'list.txt').write_text(f'# mine\nvideos/{name} {end}\n')
        steps = [OpenVideo(), DecodeVideo()] if name == 'a.mp4' else [DecodeRawFrames()]
        pipeline = [*steps[:-1], SampleSnippets(1, 1), steps[-1], PackInputs()]
        cls = VideoDataset if name == 'a.mp4' else RawFramesDataset
        dataset = cls(pipeline, str(tmp_path / 'list.txt'), str(tmp_path / 'videos'))
        assert hint_for_missing(dataset) == ''
        path = tmp_path / 'videos' / name
        path.touch() if name == 'a.mp4' else path.mkdir()
        assert f"data_root='{tmp_path}'" in hint_for_missing(dataset)


def test_unusual_frame_rates_are_reported() -> None:
    train = split([0, 1] * 10)
    known = facts(train, v0={'fps': 29.97}, v1={'fps': None}, v2={'fps': 50.0})
    found = [f for f in full_report([train], known).findings if f.check == 'frame_rate']
    assert [(f.level, f.examples) for f in found] == [('note', ('train.txt:3: train/2.mp4: 50 fps',))]
    assert numbers(found[0].text) == ['1', '19', '25', '25']
    many = facts(train, v4={'fps': 12.0}, v5={'fps': 0.2}, v6={'fps': 60.0})
    assert [f.level for f in full_report([train], many).findings if f.check == 'frame_rate'] == ['warning']
    assert not [f for f in full_report([train], facts(train)).findings if f.check == 'frame_rate']


def test_sampling_by_time_accepts_mixed_rates() -> None:
    train = split([0, 1] * 10, steps=[SampleSnippets(4, 4, fps=2)])  # snippets of 2 s
    usual = {f'v{i}': {'num_frames': 100, 'fps': 25.0} for i in range(20)}
    known = facts(train, **usual | {'v4': {'num_frames': 50, 'fps': 12.0}, 'v5': {'num_frames': 240, 'fps': 120.0}})
    assert not [f for f in full_report([train], known).findings if f.check in ('frame_rate', 'length')]
    few = facts(train, **usual | {'v4': {'num_frames': 99, 'fps': 50.0}, 'v5': {'num_frames': 90, 'fps': 50.0}})
    found = [f for f in full_report([train], few).findings if f.check == 'length']
    assert [(f.level, f.examples) for f in found] == [('note', ('train.txt:6: train/5.mp4: 90 frames',))]
    steps = [SampleSnippets(4, 4, seconds=2)]
    for fps, expected in ((30, []), (60, ['length']), (None, [])):
        folders = Split('val', records([0, 1], num_frames=80), 3, steps=steps, filename_tmpl='{}.jpg', fps=fps)
        found = [f for f in quick_report([folders], seconds=0).findings if f.check == 'length']
        assert [f.check for f in found] == expected


def test_crashed_unreadable_and_suspicious_files_are_findings() -> None:
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


def test_many_short_videos_are_a_warning() -> None:
    train = split([0, 1] * 10, steps=[SampleSnippets(4, 4, 4)])
    few = facts(train, v3={'num_frames': 18}, v4={'num_frames': 19})
    found = [f for f in full_report([train], few).findings if f.check == 'length']
    assert [(f.level, f.examples) for f in found] == [('note', ('train.txt:4: train/3.mp4: 18 frames',))]
    many = facts(train, **{f'v{i}': {'num_frames': 5} for i in range(3)})
    assert [f.level for f in full_report([train], many).findings if f.check == 'length'] == ['warning']


def test_splits_may_open_same_video_differently() -> None:
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
            found = [(f.split, numbers(f.text)) for f in report.findings if f.check == 'length']
            assert found == [('train', ['3', '3', '19'])]
            assert report.splits['train']['frames'] == (10, 10, 10)
            assert report.splits['val']['frames'] == (40, 40, 40)


def test_small_resolutions_are_reported() -> None:
    train = split([0, 1, 2, 0], steps=[Resize(256), CenterCrop(224)])
    known = facts(train, v0={'height': 100}, v1={'height': 500}, v2={'height': 300}, v3={'height': 256})
    (found,) = (f for f in full_report([train], known).findings if f.check == 'resolution')
    assert (found.level, numbers(found.text)) == ('warning', ['1', '4', '256'])
    assert found.examples == ('train.txt:1: train/0.mp4: 320x100',)
    known = facts(train, **{f'v{i}': {'height': 200} for i in range(4)})
    assert [f.level for f in full_report([train], known).findings if f.check == 'resolution'] == ['note']


def test_spans_outside_of_videos_are_errors() -> None:
    """Even if training accepts unreadable videos."""
    records = [VideoRecord('a.mp4', (0,), 'train.csv', n, start=n, end=n + 1) for n in range(2, 12)]
    one = Split('train', records, 1, max_bad_share=0.5)
    bad = [ProbeResult(records[3].key, 'bad_span', 'a.mp4: the span ...')]
    (finding,) = check_files(one, bad, 10)
    assert (finding.level, finding.check) == ('error', 'files_bad_span')
    assert finding.examples == ('train.csv:5: a.mp4: the span ...',)
