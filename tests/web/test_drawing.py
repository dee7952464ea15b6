import base64
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from dsanet.inference.long.segments import CurvePoint
from dsanet.reports.html_parts import jpeg_uri
from dsanet.web.analysis import analyze_video
from dsanet.web.drawing import draw_analysis, draw_curve, draw_error
from tests.make_recognizer import make_recognizer
from tests.make_videos import write_video


def test_page_escapes_names_and_shows_all_frames(tmp_path: Path) -> None:
    recognizer = make_recognizer()
    recognizer.class_names = [f'<i>{k}&' for k in range(8)]
    path = tmp_path / '<b>.mp4'
    write_video(path, 60)
    analysis = analyze_video(recognizer, path, 1.0)
    text = draw_analysis(analysis)
    assert '<i>' not in text
    assert '<b>.mp4' not in text
    snippets = text[text.index('What the network sees') : text.index('<section id="maps">')]
    assert snippets.count('<img ') == np.prod(analysis.inputs.shape[:3])
    assert snippets.count('<details') == len(analysis.inputs)
    assert text.count('<img ') - snippets.count('<img ') == np.prod(analysis.inputs.shape[1:3]), 'maps of one view'
    widths = [float(width) for width in re.findall(r'style="width:([\d.]+)%"', text)]
    np.testing.assert_allclose(widths, 100 * np.array(analysis.prediction.probabilities), atol=0.0051)
    assert '<i>' not in draw_error('<i>')


def test_model_without_dsa_or_maps_says_so(tmp_path: Path) -> None:
    path = tmp_path / 'a.mp4'
    write_video(path, 30)
    analysis = analyze_video(make_recognizer(), path, 9.0)
    assert analysis.kernels is not None
    assert '<section id="kernels">' in draw_analysis(analysis)
    plain = replace(analysis, kernels=None, maps=None, why_no_maps='<i>', film=None, why_no_film='too slow')
    text = draw_analysis(plain)
    assert '<section id=' not in text
    assert 'no DSA' in text
    assert '&lt;i&gt;' in text
    assert 'too slow' in text


def test_curve_has_the_probabilities_as_heights() -> None:
    points = [CurvePoint(Fraction(i), Fraction(i + 1), np.array([0.25 * i, 0.5], np.float32)) for i in (0, 1, 3)]
    path = re.findall(r' d="(.*?)"', draw_curve(points, 0, 4.0, 'x'))
    assert path == ['M0.00 100V100.00H250.00V100ZM250.00 100V75.00H500.00V100ZM750.00 100V25.00H1000.00V100Z']


def test_picture_keeps_its_colors() -> None:
    image = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    content = base64.b64decode(jpeg_uri(image, 88).partition(',')[2])
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_allclose(decoded[..., ::-1], image, atol=4)


def test_snippets_of_one_frame_are_side_by_side(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', 60)
    analysis = analyze_video(make_recognizer(), tmp_path / 'a.mp4', 4.0)
    indices = analysis.prediction.frame_indices
    assert indices is not None
    one = replace(
        analysis,
        inputs=analysis.inputs[:, :, :1],
        prediction=replace(analysis.prediction, frame_indices=indices[..., :1]),
    )
    assert '<div class="single">' not in draw_analysis(analysis)
    text = draw_analysis(one)
    assert text.count('<div class="single">') == len(one.inputs)
    times = [f'{index / 25:.2f} s' for index in indices[0, :, 0].tolist()]  # 25 frames per second
    assert re.findall(r'</b>, ([\d.]+ s)', text)[: len(times)] == times
