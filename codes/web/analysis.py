"""What a recognizer says about one video, and what it has seen of it, as plain data."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsanet.explain.cam import ActivationMaps, explain_samples
from dsanet.explain.kernels import Kernels, ModuleKernels, average_views, find_dsa, has_dsa, record_kernels
from dsanet.inference.long.predictor import LongPrediction, predict_long
from dsanet.inference.long.segments import WindowScores
from dsanet.inference.pipelines import build_pipeline, choose_views
from dsanet.inference.prediction import Prediction
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import LoadedSamples
from dsanet.inference.sources import Source
from dsanet.web.decoding import TIME_LIMIT_S, read_in_time

FILM_LIMIT_S = 600.0  # for the classes over time of one video


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
        why_no_film: why a longer video has no classes over time; empty otherwise.
        maps: activation maps of the best class in the center of a single view; None if the model has none.
        why_no_maps: the reason.
        kernels: the kernels of this video, averaged over the views; None if the model has no DSA.
    """

    prediction: Prediction
    inputs: npt.NDArray[np.uint8] = field(repr=False)
    class_names: Sequence[str] = field(repr=False)
    window: float
    film: LongPrediction | None = None
    why_no_film: str = ''
    maps: ActivationMaps | None = field(default=None, repr=False)
    why_no_maps: str = ''
    kernels: Kernels | None = field(default=None, repr=False)


def analyze_video(
    recognizer: Recognizer,
    path: Path,
    window: float,
    on_progress: Callable[[float], object] | None = None,
    time_limit: float = TIME_LIMIT_S,
    film_limit: float = FILM_LIMIT_S,
) -> VideoAnalysis:
    """Classify a video, and a video longer than a window also over time, and look into the network.

    Args:
        recognizer: from ``load_recognizer``; other threads may use it, too.
        path: video file.
        window: seconds of a window, see ``predict_long``.
        on_progress: called with the part of the video, from 0 to 1, that is predicted over time.
        time_limit: seconds for reading the sampled snippets.
        film_limit: seconds for the classes over time; the result has none if they take longer.

    Raises:
        ValueError: the file cannot be read as a video, or not in time, or its scores are not finite. The message has
            the file's name without its folder, which may be a temporary one.
    """
    source = Source(path.name, str(path))
    source.check_exists()
    steps = choose_views(recognizer.steps, 'fast')
    pipelines = [recognizer.pipelines['video']]
    if steps != recognizer.steps:
        pipelines.append(build_pipeline(steps, 'video'))
    loaded = read_in_time(source, pipelines, time_limit)
    prediction, kernels = _predict(recognizer, source, loaded[0])
    maps, why_no_maps = _explain(recognizer, source, loaded[-1], prediction.labels[0])
    film, why_no_film = None, ''
    if prediction.seconds is not None and prediction.seconds > window:
        report = _Progress(prediction.seconds, film_limit, on_progress)
        try:
            film = predict_long(recognizer, path, window, on_window=report)
        except _OutOfTimeError as error:
            why_no_film = str(error)
        except (OSError, ValueError) as error:
            raise ValueError(str(error).replace(str(path), path.name)) from error
    inputs = loaded[0].batches[0]['inputs'][0].permute(0, 1, 3, 4, 5, 2).numpy()  # (V, U, T, H, W, C)
    return VideoAnalysis(
        prediction, inputs, recognizer.class_names, window, film, why_no_film, maps, why_no_maps, kernels
    )


class _OutOfTimeError(Exception):
    """The classes over time take too long."""


class _Progress:
    """Reports how far a film is predicted, and ends it at a time limit."""

    def __init__(self, seconds: float, limit: float, report: Callable[[float], object] | None) -> None:
        self._seconds = seconds
        self._limit = limit
        self._deadline = time.monotonic() + limit
        self._report = report

    def __call__(self, scores: WindowScores) -> None:
        if time.monotonic() > self._deadline:
            raise _OutOfTimeError(f'Not predicted over time: this video takes longer than {self._limit:g} s.')
        if self._report is not None:
            self._report(min(1.0, float(scores.end) / self._seconds))


def _predict(recognizer: Recognizer, source: Source, samples: LoadedSamples) -> tuple[Prediction, Kernels | None]:
    """Return the classes of a video and its kernels, from the same pass."""
    with contextlib.ExitStack() as stack:
        passes = stack.enter_context(record_kernels(recognizer)) if has_dsa(recognizer.model) else {}
        prediction = next(recognizer.predict_samples(samples, [source]))
    if prediction.error is not None:
        raise ValueError(prediction.error)
    if not passes:
        return prediction, None
    modules = find_dsa(recognizer.model)
    found = [
        ModuleKernels(name, values, modules[name].residual)
        for name, values in average_views(passes, modules, 1).items()
    ]
    return prediction, Kernels(found, [source.name], np.array([-1]), recognizer.class_names)


def _explain(
    recognizer: Recognizer, source: Source, samples: LoadedSamples, label: str
) -> tuple[ActivationMaps | None, str]:
    try:
        return explain_samples(recognizer, samples, source.name, label=label), ''
    except (RuntimeError, ValueError) as error:  # no layer with positions, or too little memory
        return None, str(error).splitlines()[0]
