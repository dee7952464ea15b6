"""The formats of exported recognizers: write a graph of ``torch.export`` to a file, and run the file.

Each file contains the metadata as JSON under the key ``dsanet``: in ONNX files as a metadata property, in ``.pt2``
files as an extra file, in OpenVINO files as runtime information.
"""

import importlib.util
import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dsanet.utils.files import write_atomically

Predict = Callable[[npt.NDArray[np.uint8]], list[npt.NDArray[np.float32]]]

KEY = 'dsanet'
INPUT = 'frames'
OUTPUTS = ('scores', 'probabilities')


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        suffix: of the file.
        modules: packages that are needed.
        write: writes a graph and its metadata to a file.
        load: returns a function from frames (N, V, U, T, H, W, C) to the outputs, and the metadata.
    """

    suffix: str
    modules: tuple[str, ...]
    write: Callable[[torch.export.ExportedProgram, Path, Mapping[str, Any]], None]
    load: Callable[[Path], tuple[Predict, dict[str, Any]]]


def check_installed(form: str) -> None:
    """Raise a ValueError if a package for a format is missing."""
    missing = [name for name in FORMATS[form].modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f'format {form!r} requires packages that are not installed; run: pip install {" ".join(missing)}'
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says something; of an unsupported operator, its name."""
    cause: BaseException | None = error
    while cause is not None:
        operator = re.search(r"OpOverload\(op='([^']+)'", str(cause))
        if operator is not None:
            return f'operator {operator[1].replace(".default", "")} is not supported'
        cause = cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _write_onnx(program: torch.export.ExportedProgram, file: Path, metadata: Mapping[str, Any]) -> None:
    exported = _to_onnx(program)
    exported.model.metadata_props[KEY] = json.dumps(metadata)
    exported.save(file)


def _to_onnx(program: torch.export.ExportedProgram) -> Any:
    """Convert a graph.

    Raises:
        ValueError: an operator has no equivalent; the message names it.
    """
    try:
        with _quiet():
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                output_names=OUTPUTS,
                dynamic_shapes={INPUT: {0: 'N', 1: 'V'}},  # for the names only
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f'the model cannot be converted to ONNX: {first_line(error)}') from error
    return exported


def _load_onnx(file: Path) -> tuple[Predict, dict[str, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])

    def predict(frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        return session.run(list(OUTPUTS), {INPUT: frames})

    return predict, json.loads(session.get_modelmeta().custom_metadata_map[KEY])


def _write_pt2(program: torch.export.ExportedProgram, file: Path, metadata: Mapping[str, Any]) -> None:
    program.example_inputs = None  # would be stored, too
    content = io.BytesIO()  # torch.export.save would abort the process if the disk is full
    with _quiet():
        torch.export.save(program, content, extra_files={KEY: json.dumps(metadata)})
    write_atomically(content.getvalue(), file)


def _load_pt2(file: Path) -> tuple[Predict, dict[str, Any]]:
    extra = {KEY: ''}
    with _quiet():
        module = torch.export.load(file, extra_files=extra).module()

    @torch.no_grad()
    def predict(frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        return [output.numpy() for output in module(torch.from_numpy(frames))]

    return predict, json.loads(extra[KEY])


def _write_openvino(program: torch.export.ExportedProgram, file: Path, metadata: Mapping[str, Any]) -> None:
    openvino = _import_openvino()
    # By way of ONNX, because OpenVINO's own conversion of the graph loses the names and the sizes.
    onnx_file = file.with_suffix('.onnx')
    _to_onnx(program).save(onnx_file)
    model = openvino.Core().read_model(onnx_file)
    onnx_file.unlink()
    model.set_rt_info(json.dumps(metadata), [KEY])
    openvino.save_model(model, file, compress_to_fp16=False)


def _load_openvino(file: Path) -> tuple[Predict, dict[str, Any]]:
    core = _import_openvino().Core()
    model = core.read_model(file)
    # In float32, because processors with bfloat16 instructions would use them.
    compiled = core.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})

    def predict(frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        found = compiled(frames)
        return [found[name] for name in OUTPUTS]

    return predict, json.loads(model.get_rt_info([KEY]).astype(str))


def _import_openvino() -> Any:
    """Import OpenVINO without the package that would report this over the network."""
    reporter = 'openvino_telemetry'
    is_blocked = reporter not in sys.modules
    if is_blocked:
        sys.modules[reporter] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if is_blocked:
            del sys.modules[reporter]
    return openvino


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings and log lines of exporters, which are about their own code."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'torch.export', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


FORMATS = {
    'onnx': Format('.onnx', ('onnx', 'onnxscript', 'onnxruntime'), _write_onnx, _load_onnx),
    'pt2': Format('.pt2', (), _write_pt2, _load_pt2),
    'openvino': Format('.xml', ('onnx', 'onnxscript', 'openvino'), _write_openvino, _load_openvino),
}
