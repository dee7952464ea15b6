import pytest

from dsanet.datasets.transforms import (
    Compose,
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    SampleSnippets,
    Transform,
)

GIVEN = ('path', 'label', 'index', 'rng')


class FakeReader:
    closed = False

    def close(self):
        self.closed = True


class Open(Transform):
    provides = ('reader',)

    def __init__(self, reader):
        self.reader = reader

    def __call__(self, record):
        return record | {'reader': self.reader}


class Fail(Transform):
    def __call__(self, record):
        raise RuntimeError('no luck')


def test_steps_run_in_order():
    class Append(Transform):
        def __init__(self, name):
            self.name = name

        def __call__(self, record):
            return record | {'names': record.get('names', '') + self.name}

    assert Compose([Append('a'), Append('b')], GIVEN, 'VideoDataset')({'path': 'x'})['names'] == 'ab'


def test_missing_key_names_step_and_providers():
    with pytest.raises(ValueError, match=r'\b0 SampleSnippets .*num_frames.*VideoDataset.*OpenVideo'):
        Compose([SampleSnippets(4, 8), DecodeVideo()], GIVEN, 'VideoDataset')
    with pytest.raises(ValueError, match=r'\b1 PackInputs .*frames.*DecodeRawFrames.*DecodeVideo'):
        Compose([OpenVideo(), PackInputs()], GIVEN, 'VideoDataset')
    with pytest.raises(ValueError, match=r"\b0 SampleSnippets .*'fps'.*OpenVideo.*RawFramesDataset.*option fps"):
        Compose([SampleSnippets(4, 8, fps=5)], (*GIVEN, 'num_frames'), 'RawFramesDataset')
    with pytest.raises(ValueError, match=r'\b0 DecodeRawFrames .*path.*VideoDataset'):
        Compose([DecodeRawFrames()], (), 'VideoDataset')


def test_removed_key_names_the_removing_step():
    chain = [OpenVideo(), SampleSnippets(4, 8), DecodeVideo()]
    with pytest.raises(ValueError, match=r'\b3 DecodeVideo .*reader.*\b2 DecodeVideo\b'):
        Compose([*chain, DecodeVideo()], GIVEN, 'VideoDataset')
    with pytest.raises(ValueError, match=r'\b4 Flip .*frames.*\b3 PackInputs\b'):
        Compose([*chain, PackInputs(), Flip()], GIVEN, 'VideoDataset')


def test_provides_lists_keys_after_last_step():
    chain = Compose([OpenVideo(), SampleSnippets(4, 8), DecodeVideo(), PackInputs()], GIVEN, 'VideoDataset')
    assert chain.provides == {'path', 'label', 'index', 'inputs'}


def test_steps_must_be_transforms():
    with pytest.raises(TypeError, match=r"\b0\b.*Transform.*{'type': 'Flip'}"):
        Compose([{'type': 'Flip'}], GIVEN, 'VideoDataset')


def test_step_must_return_the_record():
    class Forget(Transform):
        def __call__(self, record):
            record['more'] = 1

    reader = FakeReader()
    with pytest.raises(TypeError, match=r'\b1 Forget .*None.*`return record`'):
        Compose([Open(reader), Forget()], GIVEN, 'VideoDataset')({'path': 'x'})
    assert reader.closed


def test_open_reader_is_closed_after_success_and_error():
    reader = FakeReader()
    assert 'reader' not in Compose([Open(reader)], GIVEN, 'VideoDataset')({'path': 'x'})
    assert reader.closed
    reader = FakeReader()
    with pytest.raises(RuntimeError, match='no luck'):
        Compose([Open(reader), Fail()], GIVEN, 'VideoDataset')({'path': 'x'})
    assert reader.closed
