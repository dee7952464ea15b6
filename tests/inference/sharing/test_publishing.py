import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open

from dsanet.config.registry import MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader
from dsanet.inference.checkpoint_config import config_for_checkpoint
from dsanet.inference.model_sources import read_model
from dsanet.inference.sharing.publishing import publish
from dsanet.models.weights.loading import load_weights
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically

FILES = ['README.md', 'config.json', 'model.safetensors']


def score(source: object, data: Path) -> npt.NDArray[np.float32]:
    """Return the scores of the validation videos, as ``dsanet test`` computes them."""
    file, content = read_model(source)
    paths = [f'test_dataloader.dataset.{key}={value}' for key, value in data_paths(data).items()]
    config = config_for_checkpoint(file, content, None, paths)
    model = build(config['model'], MODELS)
    load_weights(model, file, strict=True, content=content)
    loader = build_loader(config['test_dataloader'], 'test_dataloader', RuntimeCfg())
    return predict(model, loader, torch.device('cpu')).scores


def data_paths(data: Path) -> dict[str, Path]:
    return {'list_file': data / 'val.txt', 'data_root': data}


def test_published_model_has_the_same_scores(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    num_tensors = publish(checkpoint, tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == FILES
    expected = score(checkpoint, data)
    assert expected.shape == (8, 8)
    assert np.array_equal(score(f'local-dir:{tmp_path / "out"}', data), expected)
    assert np.array_equal(score(tmp_path / 'out/model.safetensors', data), expected), 'the file alone'
    with safe_open(tmp_path / 'out/model.safetensors', 'pt') as opened:
        average = read_checkpoint(checkpoint)['ema_state_dict']
        assert set(opened.keys()) == average.keys()
        assert len(average) == num_tensors
        assert all(torch.equal(opened.get_tensor(key), value) for key, value in average.items())


def test_published_twice_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    publish(checkpoint, tmp_path / 'a/m')
    publish(f'local-dir:{tmp_path / "a/m"}', tmp_path / 'b/m')
    one, two = ([(tmp_path / name / 'm' / file).read_bytes() for file in FILES[1:]] for name in 'ab')
    assert one == two


def test_config_json_describes_the_model(checkpoint: Path, content: dict[str, Any], data: Path, tmp_path: Path) -> None:
    publish(checkpoint, tmp_path / 'out')
    description = json.loads((tmp_path / 'out/config.json').read_text())
    names = content['class_names']
    assert description['num_classes'] == len(names) == 8
    assert [description['id2label'][str(number)] for number in range(8)] == names
    assert [description['label2id'][name] for name in names] == list(range(8))
    assert description['sampling'] == {
        'type': 'SampleSnippets',
        'num_snippets': 2,
        'frames_per_snippet': 2,
        'frame_interval': 1,
        'num_groups': 2,
        'random': False,
    }
    normalization = description['normalization']
    assert normalization['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert normalization['std'] == pytest.approx([58.395, 57.12, 57.375])
    assert (description['library_name'], description['pipeline_tag']) == ('dsanet', 'video-classification')
    assert description['config'].keys() == {'model', 'test_dataloader', 'metrics'}
    for file in FILES:
        assert str(data).encode() not in (tmp_path / 'out' / file).read_bytes()
        assert str(tmp_path).encode() not in (tmp_path / 'out' / file).read_bytes()


def test_weights_of_another_project_need_config_and_names(content: dict[str, Any], data: Path, tmp_path: Path) -> None:
    weights, config = tmp_path / 'x.pth', tmp_path / 'config.py'
    save_atomically({f'module.{key}': value for key, value in content['ema_state_dict'].items()}, weights)
    sections = {key: content['config'][key] for key in ('model', 'test_dataloader', 'metrics')}
    config.write_text('\n'.join(f'{key} = {value!r}' for key, value in sections.items()))
    with pytest.raises(ValueError, match='config'):
        publish(weights, tmp_path / 'out')
    with pytest.raises(ValueError, match='class_file'):
        publish(weights, tmp_path / 'out', config)
    assert not (tmp_path / 'out').exists()
    names = f'test_dataloader.dataset.class_file={data / "classes.txt"}'
    publish(weights, tmp_path / 'out', config, [names])
    assert read_model(f'local-dir:{tmp_path / "out"}')[1]['class_names'] == content['class_names']


def test_wrong_input_writes_nothing(content: dict[str, Any], tmp_path: Path) -> None:
    other = {key: value for key, value in content['state_dict'].items() if 'layer3' not in key}
    cases = {
        'missing': {**content, 'ema_state_dict': {}, 'state_dict': other},
        '7 class names': {**content, 'class_names': content['class_names'][:7]},
        "'same'": {**content, 'class_names': ['same'] * 8},
    }
    for text, changed in cases.items():
        save_atomically(changed, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=text):
            publish(tmp_path / 'x.pth', tmp_path / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_folder_with_files_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'out'
    folder.mkdir()
    (folder / 'README.md').write_text('mine')
    with pytest.raises(ValueError, match=r'README\.md'):
        publish(checkpoint, folder)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [('README.md', 'mine')]
    with pytest.raises(ValueError, match='best.pth'):
        publish(checkpoint, checkpoint)


@pytest.mark.parametrize('is_new', [True, False])
def test_failed_write_leaves_no_files(
    checkpoint: Path, tmp_path: Path, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'out'
    if not is_new:
        folder.mkdir()

    def fail(*_: object) -> None:
        raise OSError('disk full')

    monkeypatch.setattr('dsanet.inference.sharing.publishing.write_atomically', fail)
    with pytest.raises(OSError, match='disk full'):
        publish(checkpoint, folder)
    assert folder.exists() != is_new
    assert is_new or not list(folder.iterdir())
