"""A recognizer whose last features have more than one position."""

from dsanet.inference.recognizer import Recognizer
from tests.make_recognizer import make_recognizer


def make_large_recognizer() -> Recognizer:
    """Return a recognizer as that of ``make_recognizer``, for frames of 64 x 64 pixels."""
    recognizer = make_recognizer()
    for step in recognizer.config['test_dataloader']['dataset']['pipeline']:
        if step['type'] == 'CenterCrop':
            step['size'] = 64
    return Recognizer(recognizer.model, recognizer.config, recognizer.class_names, 'cpu')
