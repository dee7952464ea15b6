import dataclasses
import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsanet.config.registry import MODELS, build
from dsanet.datasets.classes import load_config_with_classes
from dsanet.inference.export.exporting import TOLERANCE, ExportableRecognizer, compare, export_recognizer
from dsanet.inference.export.formats import FORMATS
from tests.make_export import PIPELINE, Exported, export, make_model


@pytest.fixture(scope='session')
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(make_model(max_views_per_forward=1), tmp_path_factory.mktemp('export') / 'm.onnx', 'onnx')


@pytest.fixture(scope='session')
def pt2_file(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(make_model(average_views='prob'), tmp_path_factory.mktemp('export') / 'm.pt2', 'pt2')


def draw_frames(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize(('num_videos', 'num_views'), [(1, 1), (2, 6), (5, 3)])
@pytest.mark.parametrize('name', ['onnx_file', 'pt2_file'])
def test_outputs_equal_those_of_pytorch(
    name: str, num_videos: int, num_views: int, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    frames = draw_frames(num_videos, num_views, 2, 2, 16, 16, 3)
    scores, probabilities = FORMATS[name.removesuffix('_file')].load(exported.file)[0](frames.numpy())
    with torch.no_grad():
        expected = exported.model(frames.permute(0, 1, 2, 6, 3, 4, 5))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    if name == 'onnx_file':
        expected = expected.softmax(dim=1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


def test_report_has_shape_and_difference(onnx_file: Exported) -> None:
    report = onnx_file.report
    assert report.files == [onnx_file.file]
    assert [file.name for file in onnx_file.file.parent.iterdir()] == ['m.onnx']
    assert report.input_shape == ('N', 'V', 2, 2, 16, 16, 3)
    assert 0 <= report.difference < 1e-5 * report.largest_score
    assert report.largest_score > 0.1


def test_export_does_not_change_the_model(onnx_file: Exported) -> None:
    assert onnx_file.model.max_views_per_forward == 1
    before, after = make_model().state_dict(), onnx_file.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content: Any, file: Path) -> None:
        raise OSError(errno.ENOSPC, 'full', str(file))

    monkeypatch.setattr('dsanet.inference.export.formats.write_atomically', fail)
    with pytest.raises(OSError, match='full') as caught:
        export(make_model(), tmp_path / 'm.pt2', 'pt2')
    assert caught.value.filename == str(tmp_path / 'm.pt2')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['onnx_file', 'pt2_file'])
def test_metadata_describes_classes_and_sampling(name: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    metadata = FORMATS[name.removesuffix('_file')].load(exported.file)[1]
    sampling = {
        'type': 'SampleSnippets',
        'num_snippets': 2,
        'frames_per_snippet': 2,
        'frame_interval': 1,
        'num_groups': 2,
        'random': False,
    }
    assert metadata['class_names'] == ['climb', 'jump "far"', 'läuft']
    assert metadata['activation'] == ('softmax' if name == 'onnx_file' else 'none')
    assert metadata['input']['shape'] == ['N', 'V', 2, 2, 16, 16, 3]
    assert metadata['num_views'] == 6
    assert metadata['sampling'] == metadata['pipeline'][0] == sampling
    assert metadata['pipeline'][2:4] == [{'type': 'Resize', 'short_side': 16}, {'type': 'ThreeCrop', 'size': 16}]


def test_different_scores_leave_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FORMATS['pt2']

    def load(file: Path) -> Any:
        predict, metadata = real.load(file)
        return lambda frames: [output + np.float32(1e-2) for output in predict(frames)], metadata

    monkeypatch.setitem(FORMATS, 'pt2', dataclasses.replace(real, load=load))
    (tmp_path / 'm.pt2').write_text('old')
    with pytest.raises(ValueError, match=r'0\.01'):
        export(make_model(), tmp_path / 'm.pt2', 'pt2')
    assert [file.read_text() for file in tmp_path.iterdir()] == ['old']


@pytest.mark.parametrize('change', [2e-3, np.nan])
def test_comparison_refuses_different_outputs(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    exportable, views = ExportableRecognizer(make_model()), draw_frames(3, 2, 2, 16, 16, 3)

    def load_changed(_file: Path, added: float = change) -> Any:
        return lambda frames: [
            output.numpy() + np.float32(added) for output in exportable(torch.from_numpy(frames))
        ], {}

    def load_equal(file: Path) -> Any:
        return load_changed(file, 0)

    monkeypatch.setitem(FORMATS, 'pt2', dataclasses.replace(FORMATS['pt2'], load=load_equal))
    assert compare(exportable, Path('m.pt2'), 'pt2', views)[0] == 0
    monkeypatch.setitem(FORMATS, 'pt2', dataclasses.replace(FORMATS['pt2'], load=load_changed))
    with pytest.raises(ValueError, match='tolerance'):
        compare(exportable, Path('m.pt2'), 'pt2', views)


@pytest.mark.sweep
def test_unsupported_operators_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'operator \w+\.bessel_j0 '):
        export(make_model(torch.special.bessel_j0), tmp_path / 'm.onnx', 'onnx')
    assert not list(tmp_path.iterdir())


def test_control_flow_on_values_is_refused(tmp_path: Path) -> None:
    model = make_model(lambda x: x if x.device.type == 'meta' or x.sum() > 0 else -x)
    with pytest.raises(ValueError, match=r'torch\.export'):
        export(model, tmp_path / 'm.pt2', 'pt2')
    assert not list(tmp_path.iterdir())


def test_frames_of_variable_size_are_refused(tmp_path: Path) -> None:
    steps = [step for step in PIPELINE if step['type'] != 'ThreeCrop']
    with pytest.raises(ValueError, match='16 x 32 or 18 x 16'):
        export(make_model(), tmp_path / 'm.pt2', 'pt2', steps)


@pytest.mark.sweep
def test_pt2_files_need_no_dsanet(pt2_file: Exported) -> None:
    code = f"""if True:
        import sys
        sys.modules['dsanet'] = None
        import torch
        module = torch.export.load({str(pt2_file.file)!r}).module()
        print(tuple(module(torch.zeros(3, 2, 2, 2, 16, 16, 3, dtype=torch.uint8))[0].shape))
    """
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == '(3, 3)\n'


FAMILIES = [
    'demo/dsanet_tsm_ordered_actions',
    'demo/trn_ordered_actions',
    'demo/v4d_ordered_actions',
    'demo/dsanet_vit_ordered_actions',
    'kinetics/dsanet_swin3d_t_2x16',
    'kinetics/i3d_nl_r50_32x2',
    'kinetics/mvfnet_r50_8x8',
    'kinetics/tam_r50_8x8',
    'kinetics/tsn_r50_8',
    'ucf101/ucf101_dsanet_r2plus1d_18_4x16',
]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ('name', 'form'),
    [*((name, 'onnx') for name in FAMILIES), *((name, form) for name in FAMILIES[:2] for form in ('pt2', 'openvino'))],
)
def test_models_of_all_families_can_be_exported(name: str, form: str, tmp_path: Path) -> None:
    config = load_config_with_classes(name, ['model.backbone.pretrained=None'], num_classes=3)
    pipeline = config['test_dataloader']['dataset']['pipeline']
    for step in pipeline:
        # Those of the demo are small, and its transformer needs multiples of 5.
        step.update({key: 32 for key in ('size', 'short_side') if step.get(key, 0) > 40})
    torch.manual_seed(0)
    model = build(config['model'], MODELS, 'model')
    for parameter in model.parameters():  # blocks that start as the identity
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    file = tmp_path / f'm{FORMATS[form].suffix}'
    report = export_recognizer(model.eval(), pipeline, ['a', 'b', 'c'], form, file)
    assert file.is_file()
    assert report.difference <= TOLERANCE * report.largest_score or model.activation == 'none'
    if form == 'pt2':
        nodes = torch.export.load(file).graph.nodes
        num_norms = sum('batch_norm' in str(node.target) for node in nodes if node.op == 'call_function')
        kept = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]  # after linear layers
        assert num_norms == len(kept), 'the others are folded into convolutions'
