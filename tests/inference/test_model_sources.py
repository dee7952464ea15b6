import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from dsanet.inference.model_sources import default_output, find_model, read_model
from dsanet.inference.sharing.publishing import publish


def make_folder(folder: Path, description: object, name: str = 'model.safetensors') -> str:
    """Write weights and ``config.json`` of another project."""
    folder.mkdir(exist_ok=True)
    state = {'conv.weight': torch.ones(2)}
    if name.endswith('.safetensors'):
        safetensors.torch.save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    text = description if isinstance(description, str) else json.dumps(description)
    (folder / 'config.json').write_text(text)
    return f'local-dir:{folder}'


@pytest.mark.parametrize(
    ('source', 'file'),
    [
        ('runs/best.pth', 'runs/best.onnx'),
        ('local-dir:models/v1.2/', 'models/v1.2.onnx'),
        ('local-dir:.', '{}.onnx'),
        ('hf-hub:user/v1.2', 'v1.2.onnx'),
        ('hf-hub:user/name@refs/pr/1', 'name.onnx'),
    ],
)
def test_default_output_is_next_to_the_model(
    source: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_output(source, '.onnx') == Path(file.format(tmp_path))


def test_file_needs_no_prefix(tmp_path: Path) -> None:
    for name in ('best.pth', 'work_dirs/best.pth', 'https://x.org/a'):
        assert find_model(name) == Path(name)
    make_folder(tmp_path / 'm', {'id2label': {'0': 'a'}})
    assert 'class_names' not in read_model(tmp_path / 'm/model.safetensors')[1], 'a file alone has no config.json'


@pytest.mark.parametrize(
    ('source', 'error', 'hint'),
    [
        ('folder', ValueError, 'local-dir:folder'),
        ('local-dir:folder', FileNotFoundError, 'model.safetensors'),
        ('local-dir:nowhere', FileNotFoundError, 'nowhere'),
        ('user/name', FileNotFoundError, 'hf-hub:user/name .*local-dir:'),
        ('hf-hub:name', ValueError, 'USER/NAME'),
        ('hf-hub:user/na--me', ValueError, 'USER/NAME'),
        ('hf-hub:', ValueError, 'USER/NAME'),
        ('hf-hub:user/a/b', ValueError, 'USER/NAME'),
        ('hf-hub:user/name@', ValueError, '@'),
        ('local-dir:', ValueError, 'local-dir:'),
        ('', ValueError, 'empty'),
        (3, TypeError, 'int'),
    ],
)
def test_wrong_source_is_an_error_with_hint(
    source: Any, error: type, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    with pytest.raises(error, match=hint):
        find_model(source)


@pytest.mark.parametrize(
    ('description', 'names'),
    [
        ({'id2label': {'1': 'b', '0': 'a'}}, ['a', 'b']),
        ({'label_names': ['x', 'y'], 'num_classes': 2}, ['x', 'y']),
        ({'id2label': {'0': 'LABEL_0', '1': 'LABEL_1'}}, None),
        ({'id2label': {'1': 'b', '2': 'c'}}, None),
        ({'id2label': {'0': 3}, 'config': {'model': {}}}, None),
        ({}, None),
    ],
)
def test_names_come_from_config_json(description: Mapping[str, Any], names: list[str] | None, tmp_path: Path) -> None:
    for name in ('model.safetensors', 'pytorch_model.bin'):
        file, content = read_model(make_folder(tmp_path / name, description, name))
        assert file == tmp_path / name / name
        assert content.get('class_names') == names
        assert torch.equal(content['conv.weight'], torch.ones(2))
        assert 'config' not in content


@pytest.mark.parametrize('text', ['', '[1]', '{"a"', '[' * 100_000])
def test_damaged_config_json_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'config\.json'):
        read_model(make_folder(tmp_path / 'm', text))


def test_edited_config_json_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    publish(checkpoint, tmp_path / 'out')
    source = f'local-dir:{tmp_path / "out"}'
    file = tmp_path / 'out/config.json'
    original = json.loads(file.read_text())
    read_model(source)
    for key, value in (('id2label', {**original['id2label'], '0': 'x'}), ('config', {})):
        file.write_text(json.dumps({**original, key: value}))
        with pytest.raises(ValueError, match=f'config.json .*{"class_names" if key == "id2label" else "config"}'):
            read_model(source)
