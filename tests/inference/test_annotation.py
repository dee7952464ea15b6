from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.inference.annotation import SnippetBar, annotate_video
from dsanet.inference.prediction import Prediction
from dsanet.inference.sources import find_sources
from tests.make_videos import draw_frames, read_index, write_frames, write_video

INDICES = np.array([[[0, 1], [9, 9]], [[4, 5], [8, 9]]])


def test_snippet_bar_marks_the_frames_of_each_snippet() -> None:
    snippet_bar = SnippetBar(INDICES, 10)
    assert snippet_bar.snippet_of == {0: 0, 1: 0, 4: 0, 5: 0, 8: 1, 9: 1}
    strip = snippet_bar.draw(3, 100)
    colors = [tuple(strip[5, 10 * i + 5].tolist()) for i in range(10)]
    first, second = snippet_bar.colors
    gray = (215, 215, 215)
    assert colors == [first, first, gray, (0, 0, 0), first, first, gray, gray, second, second]


@pytest.mark.parametrize('kind', ['file', 'folder', 'array'])
def test_copy_has_every_frame_below_the_label(tmp_path: Path, kind: str) -> None:
    videos = {'file': write_video(tmp_path / 'a.mp4', 10), 'folder': write_frames(tmp_path / 'a', 10)}
    source = find_sources(videos.get(kind, draw_frames(10)))[0][0]
    result = Prediction('a', ['a class $ of ünits'], [3.0], [0.93], 1, 10, 10 / 25, frame_indices=INDICES)
    annotate_video(source, result, tmp_path / 'out.mp4')
    with av.open(str(tmp_path / 'out.mp4')) as container:
        assert container.streams.video[0].average_rate == 25
        images = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert images[0].shape == (30 + 3 * 72 + 14, 3 * 128, 3)
    assert [read_index(image[30:-14, 20:-20]) for image in images] == list(range(10))
    text = images[0][:30]
    assert text.min() < 60, 'text is drawn'
    color = SnippetBar(INDICES, 10).colors[1]
    assert images[9][140, 2].astype(int) == pytest.approx(color, abs=60), 'a frame around the picture in the color'


def test_unreadable_video_leaves_no_copy(tmp_path: Path) -> None:
    (tmp_path / 'bad.mp4').write_bytes(b'\0' * 1000)
    result = Prediction('a', ['a'], [3.0], [0.93], 1, 10, frame_indices=INDICES)
    with pytest.raises(ValueError, match='video'):
        annotate_video(find_sources(tmp_path / 'bad.mp4')[0][0], result, tmp_path / 'out.mp4')
    assert [file.name for file in tmp_path.iterdir()] == ['bad.mp4']
