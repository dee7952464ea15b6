import numpy as np
import pytest

from dsanet.data_checks.splits import Split
from dsanet.datasets.transforms import Flip, RandomResizedCrop, SampleSegments, SampleSnippets


@pytest.mark.parametrize(
    ('step', 'needed'),
    [(SampleSnippets(4, 4, 4), 19), (SampleSnippets(4, 4, 4, num_groups=2), 23), (SampleSegments(1, 8), 8)],
)
def test_needed_frames_gives_distinct_snippets(step: object, needed: int) -> None:
    assert Split('val', [], steps=[step]).needed_frames == needed
    record = {'rng': np.random.default_rng(0)}
    indices = [step({**record, 'num_frames': n})['frame_indices'] for n in (needed - 1, needed)]
    if isinstance(step, SampleSnippets):
        indices = [i[..., 0] for i in indices]  # first frames of the snippets
    assert [len(np.unique(i)) == i.size for i in indices] == [False, True]


def test_short_side_includes_random_crop_size() -> None:
    assert Split('train', [], steps=[RandomResizedCrop((112, 128)), Flip()]).short_side == 112
    assert Split('train', [], steps=[Flip()]).short_side == 0
