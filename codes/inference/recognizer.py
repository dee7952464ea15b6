"""A trained recognizer that is called with videos."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dsanet.config.loading import read_section
from dsanet.config.registry import MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.classes import find_class_names
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.transforms.base import check_count
from dsanet.engine.evaluator import autocast
from dsanet.engine.preparation import check_clip_shape, place_model
from dsanet.inference.checkpoint_config import class_names_for_checkpoint, config_for_checkpoint
from dsanet.inference.model_sources import read_model
from dsanet.inference.pipelines import build_pipeline, choose_views, find_test_dataset
from dsanet.inference.prediction import Prediction
from dsanet.inference.samples import LoadedSamples, load_samples
from dsanet.inference.sources import Source, Video, find_sources
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.models.weights.loading import load_weights
from dsanet.utils.class_names import ClassNames
from dsanet.utils.files import check_path


class Recognizer:
    """A model in eval mode with its preprocessing. Threads may share it: the model computes one batch at a time.

    Args:
        model: the recognizer; it is moved to ``device``.
        config: a checked config with the pipeline of ``test_dataloader``.
        class_names: names by class number; None for the numbers.
        device: such as 'cpu' or 'cuda:0'; 'auto' for the first GPU, if there is one.
        views: 'test' for the views of the config, 'fast' for the center of a single view.

    Attributes:
        device: device of the model.
        steps: the steps of the pipeline with these views, as in a config.
        pipelines: the pipeline by kind of source, see ``Source``.
        frame_names: file names of frames, if the config reads folders of frames.
        frames_fps: frame rate of folders of frames in the config; None if unknown.
        lock: held while the model computes; who adds hooks to the model holds it as long as they are there.
    """

    def __init__(
        self,
        model: Recognizer3D,
        config: Mapping[str, Any],
        class_names: Sequence[str] | None = None,
        device: str | torch.device = 'auto',
        views: str = 'test',
    ) -> None:
        self.model = model
        self.config = config
        self.class_names = [str(k) for k in range(model.num_classes)] if class_names is None else list(class_names)
        self.device = find_device(device)
        dataset = find_test_dataset(config)
        self.steps = choose_views(dataset['pipeline'], views)
        kinds = ('video', 'frames', 'array')
        self.frames_fps: float | None = dataset.get('fps')
        self.pipelines = {kind: build_pipeline(self.steps, kind, self.frames_fps) for kind in kinds}
        template = dataset.get('filename_tmpl')
        self.frame_names = FrameNames(template, dataset.get('start_index', 1)) if template is not None else None
        self._amp = read_section(config, 'runtime', RuntimeCfg).amp
        self.lock = threading.RLock()  # who holds it for hooks calls score()
        place_model(model, self.device)
        model.eval()

    def __call__(
        self,
        videos: Video | Sequence[Video],
        topk: int = 5,
        fps: float | None = None,
        allow_urls: bool = False,
        batch_size: int | None = None,
        num_workers: int = 0,
    ) -> Any:
        """Classify one or many videos.

        Args:
            videos: path of a video, of a folder of frames or of videos, or of a list; frames (T, H, W, 3) uint8 RGB;
                the content of a video file; a URL; or a sequence of these. See ``find_sources``.
            topk: number of best classes in a result.
            fps: frames per second of frames in memory and of folders of frames; None if unknown. The length in seconds
                depends on it, and the sampling if it is by time.
            allow_urls: download videos from http and https.
            batch_size: videos per forward pass; None for that of the config's ``test_dataloader``.
            num_workers: processes that read the videos; 0 to read them in this thread.

        Returns:
            A :class:`Prediction`; a list of them for a sequence, list or folder of videos. There, a video that cannot
            be read has a result with an error.

        Raises:
            ValueError, FileNotFoundError: a single video cannot be read, or an argument is wrong.
            TypeError: ``videos`` is of another kind.
        """
        sources, is_single = find_sources(videos, fps, allow_urls, self.frame_names)
        if is_single:
            sources[0].check_exists()
        results = list(self.iterate(sources, topk, batch_size, num_workers))
        if not is_single:
            return results
        if results[0].error is not None:
            raise ValueError(results[0].error)
        return results[0]

    def iterate(
        self, sources: Sequence[Source], topk: int = 5, batch_size: int | None = None, num_workers: int = 0
    ) -> Iterator[Prediction]:
        """Yield the results of videos in their order, batch by batch; the arguments are those of a call.

        With the batch size of a test, the scores are bit for bit those of the test.
        """
        check_count('topk', topk)
        size = self.config['test_dataloader']['batch_size'] if batch_size is None else batch_size
        for samples in load_samples(sources, self.pipelines, size, num_workers):
            yield from self.predict_samples(samples, sources, topk)

    def predict_samples(self, samples: LoadedSamples, sources: Sequence[Source], topk: int = 5) -> Iterator[Prediction]:
        """Yield the results of samples that are loaded already, in the order of their videos.

        Args:
            samples: from ``load_samples``.
            sources: all videos; the indices of the samples refer to them.
            topk: number of best classes in a result.
        """
        rows: dict[int, tuple[npt.NDArray[np.float32], Tensor, int]] = {}
        for batch in samples.batches:
            scores, probabilities = self.score(batch['inputs'])
            num_views = batch['inputs'].shape[1]
            for i, index in enumerate(batch['index'].tolist()):
                rows[index] = scores[i].numpy(), probabilities[i], num_views
        for index in sorted({*rows, *samples.errors}):
            name = sources[index].name
            if index in samples.errors:
                yield Prediction(name, error=samples.errors[index])
            else:
                yield self._to_prediction(name, *rows[index], samples.facts[index], topk)

    @torch.no_grad()
    def score(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the model, as in a test, and the probabilities.

        Args:
            inputs: uint8 frames (N, V, U, C, T, H, W).

        Returns:
            Both (N, K) float32 on the CPU.
        """
        with self.lock:
            with autocast(self.device, self._amp):
                scores = self.model(inputs)
            scores = scores.float()
            is_prob = self.model.activation == 'none'
            probabilities = scores if is_prob else self.model.cls_head.probabilities(scores)
            return scores.cpu(), probabilities.cpu()

    def _to_prediction(
        self,
        name: str,
        scores: npt.NDArray[np.float32],
        probabilities: Tensor,
        num_views: int,
        facts: Mapping[str, Any],
        topk: int,
    ) -> Prediction:
        if not np.isfinite(scores).all():
            return Prediction(name, error=f'{name}: the scores are not finite')
        best = np.argsort(-scores, kind='stable')[:topk].tolist()
        num_frames, fps = facts['num_frames'], facts['fps']
        return Prediction(
            name,
            [self.class_names[k] for k in best],
            scores[best].tolist(),
            probabilities[best].tolist(),
            num_views,
            num_frames,
            num_frames / fps if fps else None,
            scores,
            facts['frame_indices'],
        )


def load_recognizer(
    source: str | Path,
    device: str | torch.device = 'auto',
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    options: Iterable[str] = (),
    imports: Iterable[str] = (),
    views: str = 'test',
    allow_pickle: bool = False,
) -> Recognizer:
    """Load a trained recognizer.

    Args:
        source: a checkpoint file, ``local-dir:FOLDER`` or ``hf-hub:USER/NAME``. One of DSANet includes its config and
            class names.
        device: such as 'cpu' or 'cuda:0'; 'auto' for the first GPU, if there is one.
        config: the config of weights that have none: a file, the name of one of DSANet's, or a loaded config.
        options: overrides as for ``--cfg-options``, such as ``['model.average_views=prob']``.
        imports: modules that register custom classes, as for ``--import``.
        views: 'test' for the views of the config, 'fast' for the center of a single view.
        allow_pickle: see ``read_checkpoint``.

    Raises:
        FileNotFoundError, KeyError, ValueError: an error in the config or weights, weights without a config, or a
            config with other class names.
    """
    check_path(source, 'checkpoint')
    target = find_device(device)  # before the checkpoint is read, which takes longer
    source, content = read_model(source, allow_pickle)
    loaded = config_for_checkpoint(source, content, config, options, imports)
    model = build(loaded['model'], MODELS, 'model')
    check_clip_shape(model, loaded, ['test_dataloader'])
    load_weights(model, source, strict=True, content=content)
    # The data that a stored config refers to may have changed since, and is not used here.
    path = 'test_dataloader.dataset'
    data = (
        find_class_names(loaded['test_dataloader']['dataset'], path) if config is not None else ClassNames(None, path)
    )
    names = class_names_for_checkpoint(source, content, model.num_classes, data)
    return Recognizer(model, loaded, names, target, views)


def find_device(device: str | torch.device) -> torch.device:
    """Return the device for a name; 'auto' is the first GPU, or else the CPU.

    Raises:
        ValueError: it is not the name of a device, or this machine does not have it.
    """
    if device == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} must be 'auto' or a device such as 'cpu' or 'cuda:0'") from error
    number = torch.cuda.device_count() if found.type == 'cuda' else 1
    if (found.index or 0) >= number:
        raise ValueError(f"device='{found}' is not available: PyTorch finds {number} GPUs; use 'cpu' or 'auto'")
    return found
