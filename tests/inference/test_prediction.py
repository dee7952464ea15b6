import json

import numpy as np

from dsanet.inference.prediction import Prediction


def test_dict_has_everything_but_arrays() -> None:
    result = Prediction('a', ['x'], [2.5], [0.75], 6, 50, 2.0, np.zeros(3, np.float32), np.zeros((1, 1, 1), np.int64))
    expected = {
        'video': 'a',
        'labels': ['x'],
        'scores': [2.5],
        'probabilities': [0.75],
        'num_views': 6,
        'num_frames': 50,
        'seconds': 2.0,
    }
    assert json.loads(json.dumps(result.to_dict())) == expected


def test_dict_of_an_error_has_no_result() -> None:
    assert Prediction('a', error='damaged').to_dict() == {'video': 'a', 'error': 'damaged'}


def test_equal_results_compare_equal() -> None:
    one, same = (Prediction('a.mp4', ['wave'], [1.5], [0.9], all_scores=np.ones(2, np.float32)) for _ in range(2))
    assert one == same
    assert one != Prediction('a.mp4', ['wave'], [1.25], [0.9])
