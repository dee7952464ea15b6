"""Pictures of a run for TensorBoard: the first training batch, the graph of the network, and validation features."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsanet.data_tools.visualization import MARGIN, Image, Sheet, fit_into, wrap_to_width
from dsanet.utils.text import printable

MAX_VIDEOS_SHOWN = 8
MAX_POINTS = 1000  # videos in the embedding, because the browser draws a picture for each
CELL = 64  # size of a frame in pixels
THUMBNAIL = 40  # size of the picture of a video in the embedding; all of them form one image
LEGEND = 'The frames that the network sees, after augmentation and before normalization. '


def label_names(label: Tensor, class_names: Sequence[str] | None) -> list[str]:
    """Return the classes of each video of a batch as text.

    Args:
        label: classes (N,), or soft or multi-hot labels (N, K).
        class_names: names of the K classes; None if unknown.
    """
    rows = (
        [[int(k)] for k in label]
        if label.dim() == 1
        else [[k for k, share in enumerate(row.tolist()) if share] for row in label]
    )
    names = [', '.join(class_names[k] if class_names else f'class {k}' for k in row) for row in rows]
    return [printable(name) or 'no class' for name in names]


def draw_batch(inputs: Tensor, names: Sequence[str], title: str) -> Image:
    """Draw the first videos of a batch, each as a grid with a row per snippet and a column per frame.

    Snippets of a single frame are columns, so that there is space for the names of the classes.

    Args:
        inputs: uint8 (N, V, U, C, T, H, W); the first view is shown.
        names: caption of each video.
        title: title of the image.

    Returns:
        The image, (H, W, 3).
    """
    frames = inputs[:MAX_VIDEOS_SHOWN, 0].permute(0, 1, 3, 4, 5, 2).cpu().numpy()  # (N, U, T, H, W, C)
    layout = 'A row is a snippet, a column is a frame of the snippet.'
    if frames.shape[2] == 1:
        frames = frames.swapaxes(1, 2)  # (N, T, U, H, W, C)
        layout = 'A column is a snippet of a single frame.'
    num_videos, num_rows, num_columns = frames.shape[:3]
    step, gap, caption = CELL + 2, 16, 20
    block_width, block_height = num_columns * step, caption + num_rows * step + 8
    across = max(1, min(num_videos, 1100 // (block_width + gap)))
    inner = max(across * (block_width + gap) - gap, 420)  # minimum width for the legend
    legend = wrap_to_width(LEGEND + layout, inner, 12)
    top = MARGIN + 28 + 16 * len(legend) + 8
    sheet = Sheet(2 * MARGIN + inner, top + math.ceil(num_videos / across) * block_height + MARGIN)
    sheet.write(title, MARGIN, MARGIN, size=18, weight='bold', width=inner)
    for number, line in enumerate(legend):
        sheet.write(line, MARGIN, MARGIN + 28 + 16 * number, size=12, color='dimgray')
    for video, name in zip(range(num_videos), names, strict=False):
        x = MARGIN + video % across * (block_width + gap)
        y = top + video // across * block_height
        sheet.write(name, x, y, size=13, weight='bold', width=block_width)
        for row, column in np.ndindex(num_rows, num_columns):
            cell = fit_into(frames[video, row, column], CELL, CELL)
            sheet.paste(cell, x + column * step, y + caption + row * step)
    return sheet.draw()


def add_first_batch(board: Any, batch: Mapping[str, Any], class_names: Sequence[str] | None) -> None:
    """Write the first training batch of a run as an image.

    Args:
        board: a ``SummaryWriter``.
        batch: with ``inputs`` and ``label``.
        class_names: names of the classes; None if unknown.
    """
    names = label_names(batch['label'], class_names)
    shown = min(len(names), MAX_VIDEOS_SHOWN)
    image = draw_batch(batch['inputs'], names, f'First training batch: {shown} of {len(names)} videos')
    board.add_image('first_batch', image, 1, dataformats='HWC')


def add_graph(board: Any, model: nn.Module, inputs: Tensor) -> None:
    """Write the graph of a model in eval mode.

    Args:
        board: a ``SummaryWriter``.
        model: a recognizer; its mode is restored.
        inputs: uint8 (N, V, U, C, T, H, W); the first video is used.

    Raises:
        RuntimeError: torch cannot trace the model.
    """
    was_training = model.training
    model.eval()  # changes no statistics of batch norm and draws no random numbers
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')  # of tracing: the graph is only looked at
            board.add_graph(model, inputs[:1])
    finally:
        model.train(was_training)


@torch.no_grad()
def compute_features(model: Any, inputs: Tensor) -> Tensor:
    """Return the features (N, C) of videos: what the head gets, averaged over views, snippets, time and space.

    Args:
        model: a recognizer in eval mode.
        inputs: uint8 (N, V, U, C, T, H, W).
    """
    parts: list[Tensor] = []  # one per call of the head, which may get the views in several parts
    hook = model.cls_head.register_forward_pre_hook(lambda _, args: parts.append(args[0].mean(dim=(2, 3, 4))))
    try:
        model(inputs)
    finally:
        hook.remove()
    return torch.cat(parts).float().unflatten(0, (len(inputs), -1)).mean(dim=1).cpu()  # (N, C)


def add_embedding(
    board: Any, model: Any, batches: Iterable[Mapping[str, Any]], class_names: Sequence[str] | None, iteration: int
) -> None:
    """Write features of validation videos for TensorBoard's projector, with their class and middle frame.

    Args:
        board: a ``SummaryWriter``.
        model: a recognizer; its mode is restored.
        batches: of the validation loader; at most 1000 videos are used.
        class_names: names of the classes; None if unknown.
        iteration: number of finished iterations.
    """
    features, names, pictures = [], [], []
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            inputs = batch['inputs']
            features.append(compute_features(model, inputs))
            names += label_names(batch['label'], class_names)
            views = inputs[:, 0]  # (N, U, C, T, H, W)
            middle = views[:, views.shape[1] // 2, :, views.shape[3] // 2].permute(0, 2, 3, 1)  # (N, H, W, C)
            pictures += [fit_into(frame, THUMBNAIL, THUMBNAIL) for frame in middle.cpu().numpy()]
            if len(names) >= MAX_POINTS:
                break
    finally:
        model.train(was_training)
    images = torch.from_numpy(np.stack(pictures[:MAX_POINTS])).permute(0, 3, 1, 2).float() / 255  # (N, C, H, W)
    matrix = torch.cat(features)[:MAX_POINTS]  # (N, C)
    board.add_embedding(matrix, names[:MAX_POINTS], images, iteration, tag='validation')
