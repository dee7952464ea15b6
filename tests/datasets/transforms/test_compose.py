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


def test_a_missing_key_names_the_step_the_key_and_its_givers():
    message = (
        'step 0 SampleSnippets needs num_frames, which neither VideoDataset nor an earlier step gives; '
        'OpenVideo gives it'
    )
    with pytest.raises(ValueError, match=message):
        Compose([SampleSnippets(4, 8), DecodeVideo()], GIVEN, 'VideoDataset')
    with pytest.raises(ValueError, match='step 1 PackInputs needs frames, .*DecodeRawFrames or DecodeVideo or'):
        Compose([OpenVideo(), PackInputs()], GIVEN, 'VideoDataset')


def test_a_key_that_nothing_gives_is_named_alone():
    with pytest.raises(ValueError, match='step 0 DecodeRawFrames needs path, .*an earlier step gives$'):
        Compose([DecodeRawFrames()], (), 'VideoDataset')


def test_a_key_that_is_used_up_names_the_step_that_did():
    chain = [OpenVideo(), SampleSnippets(4, 8), DecodeVideo()]
    with pytest.raises(ValueError, match='step 3 DecodeVideo needs reader, which step 2 DecodeVideo uses up'):
        Compose([*chain, DecodeVideo()], GIVEN, 'VideoDataset')
    with pytest.raises(ValueError, match='step 4 Flip needs frames, which step 3 PackInputs uses up'):
        Compose([*chain, PackInputs(), Flip()], GIVEN, 'VideoDataset')


def test_what_is_there_at_the_end_is_known():
    chain = Compose([OpenVideo(), SampleSnippets(4, 8), DecodeVideo(), PackInputs()], GIVEN, 'VideoDataset')
    assert chain.provides == {'path', 'label', 'index', 'inputs'}


def test_something_else_than_a_transform_is_refused():
    with pytest.raises(TypeError, match="step 0 of the pipeline must be a Transform object, got {'type': 'Flip'}"):
        Compose([{'type': 'Flip'}], GIVEN, 'VideoDataset')


def test_a_step_that_does_not_return_the_record_is_named_and_the_reader_closed():
    class Forget(Transform):
        def __call__(self, record):
            record['more'] = 1

    reader = FakeReader()
    message = 'step 1 Forget returned None instead of the record; does its __call__ end with `return record`'
    with pytest.raises(TypeError, match=message):
        Compose([Open(reader), Forget()], GIVEN, 'VideoDataset')({'path': 'x'})
    assert reader.closed


def test_an_open_reader_is_closed_at_the_end_and_after_an_error():
    reader = FakeReader()
    assert 'reader' not in Compose([Open(reader)], GIVEN, 'VideoDataset')({'path': 'x'})
    assert reader.closed
    reader = FakeReader()
    with pytest.raises(RuntimeError, match='no luck'):
        Compose([Open(reader), Fail()], GIVEN, 'VideoDataset')({'path': 'x'})
    assert reader.closed
