from pathlib import Path

import pytest

from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import find_sources
from tests.make_videos import draw_frames


@pytest.mark.parametrize('num_workers', [0, 2])
def test_every_source_is_a_sample_or_an_error(recognizer: Recognizer, videos: Path, num_workers: int) -> None:
    sources = find_sources([videos, draw_frames(5), (videos / 'bad.mp4').read_bytes()])[0]
    found: list[int] = []
    for samples in load_samples(sources, recognizer.pipelines, 4, num_workers):
        indices = [int(i) for batch in samples.batches for i in batch['index']]
        assert samples.facts.keys() == set(indices)
        assert all(sources[i].name in text for i, text in samples.errors.items())
        assert not any('dsanet-' in text for text in samples.errors.values()), 'no names of temporary files'
        found += sorted([*indices, *samples.errors])
    assert found == list(range(6))


def test_errors_of_the_program_are_raised(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(record: object) -> None:
        raise TypeError('a mistake in a transform')

    monkeypatch.setattr(recognizer.pipelines['array'], 'transforms', [fail])
    with pytest.raises(TypeError, match='mistake'):
        list(load_samples(find_sources([draw_frames(5)])[0], recognizer.pipelines, 1))
