"""What a recognizer says about one video, and what it has seen of it, as plain data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsanet.inference.long.predictor import LongPrediction, predict_long
from dsanet.inference.prediction import Prediction
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import Source


@dataclass(frozen=True)
class VideoAnalysis:
    """The result for one video.

    Args:
        prediction: classes of the whole video, the best first.
        inputs: the sampled frames as the network sees them, uint8 RGB (V, U, T, H, W, 3), crop-major: the G groups of
            crop 0, then those of crop 1, ...
        class_names: names by class number.
        window: seconds of a window.
        film: the classes over time; None for a video that is not longer than a window.
    """

    prediction: Prediction
    inputs: npt.NDArray[np.uint8] = field(repr=False)
    class_names: Sequence[str] = field(repr=False)
    window: float
    film: LongPrediction | None = None


def analyze_video(
    recognizer: Recognizer,
    path: Path,
    window: float,
    on_progress: Callable[[float], object] | None = None,
) -> VideoAnalysis:
    """Classify a video, and a video longer than a window also over time.

    Args:
        recognizer: from ``load_recognizer``.
        path: video file.
        window: seconds of a window, see ``predict_long``.
        on_progress: called with the part of the video, from 0 to 1, that is predicted over time.

    Raises:
        ValueError: the file cannot be read as a video, or its scores are not finite. The message has the file's name
            without its folder, which may be a temporary one.
    """
    source = Source(path.name, str(path))
    source.check_exists()
    samples = next(load_samples([source], recognizer.pipelines, 1))
    prediction = next(recognizer.predict_samples(samples, [source]))
    if prediction.error is not None:
        raise ValueError(prediction.error)
    inputs = samples.batches[0]['inputs'][0].permute(0, 1, 3, 4, 5, 2).numpy()  # (V, U, T, H, W, C)
    film = None
    seconds = prediction.seconds
    if seconds is not None and seconds > window:
        report = on_progress or (lambda _part: None)
        try:
            film = predict_long(
                recognizer, path, window, on_window=lambda scores: report(min(1.0, float(scores.end) / seconds))
            )
        except (OSError, ValueError) as error:
            raise ValueError(str(error).replace(str(path), path.name)) from error
    return VideoAnalysis(prediction, inputs, recognizer.class_names, window, film)
