from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsanet import build_model, inference_recognizer, init_recognizer, load_config
from dsanet.config.formatting import format_config
from dsanet.config.registry import MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.data_tools.ordered_actions import make_dataset
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader
from dsanet.utils.checkpoint_io import save_atomically
from tests.engine.conftest import make_config


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'ordered'
    make_dataset(root, num_videos=16, seed=0, val_fraction=0.5, size=32)
    return root


def save_model(described: dict[str, Any], file: Path, **content: object) -> Path:
    torch.manual_seed(3)
    model = build(described['model'], MODELS)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    save_atomically({'state_dict': model.state_dict(), **content}, file)
    return file


def test_build_model_from_a_config() -> None:
    model = build_model(
        'configs/demo/dsanet_ordered_actions.py', ['num_classes=3', 'model.backbone.pretrained=nowhere.pth']
    )
    assert model.num_classes == 3
    assert model.training
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 4, 3, 4, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_build_model_loads_pretrained_weights(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    weights = save_model(config, tmp_path / 'x.pth')
    config['model']['backbone']['pretrained'] = str(weights)
    name = 'backbone.conv1.weight'
    saved, fresh, loaded = (
        state[name]
        for state in (
            torch.load(weights, weights_only=True)['state_dict'],
            build_model(config).state_dict(),
            build_model(config, pretrained=True).state_dict(),
        )
    )
    assert torch.equal(loaded, saved)
    assert not torch.equal(fresh, saved)


@pytest.mark.parametrize('average_views', ['score', 'prob'])
def test_prediction_of_a_file_equals_the_test(data: Path, tmp_path: Path, average_views: str) -> None:
    config = make_config(data, model={'average_views': average_views})
    names = [f'class {k}' for k in 'abcdefgh']
    recognizer = init_recognizer(config, save_model(config, tmp_path / 'x.pth', class_names=names))
    loader = build_loader(config['test_dataloader'], 'test_dataloader', RuntimeCfg())
    scores = torch.from_numpy(predict(recognizer.model, loader, torch.device('cpu')).scores)
    expected = scores if average_views == 'prob' else scores.softmax(1)
    for i in range(3):
        result = inference_recognizer(recognizer, loader.dataset.records[i].path)
        values = [value for _, value in result]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, rel=1e-5)
        assert result[0][0] == names[expected[i].argmax()]
        assert dict(result)['class c'] == pytest.approx(expected[i, 2].item(), rel=1e-3)


def test_missing_class_names_become_numbers(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    file = tmp_path / 'config.py'
    file.write_text(format_config(config))
    recognizer = init_recognizer(file, save_model(config, tmp_path / 'x.pth'), options=['model.average_views=prob'])
    assert recognizer.class_names == [str(k) for k in range(8)]
    with pytest.raises(FileNotFoundError, match=r'nowhere\.mp4'):
        inference_recognizer(recognizer, 'nowhere.mp4')


@pytest.mark.parametrize(
    ('video', 'error'),
    [
        (np.zeros((2, 4, 4, 3), np.float32), ValueError),
        (np.zeros((4, 4, 3), np.uint8), ValueError),
        (0, TypeError),
        (None, TypeError),
        (['a.mp4'], TypeError),
        ('', ValueError),
        (b'a.mp4', ValueError),
    ],
)
def test_other_values_are_no_single_video(data: Path, tmp_path: Path, video: Any, error: type[Exception]) -> None:
    config = make_config(data)
    recognizer = init_recognizer(config, save_model(config, tmp_path / 'x.pth'))
    with pytest.raises(error):
        inference_recognizer(recognizer, video)
    with pytest.raises(TypeError, match='init_recognizer.* got str'):
        inference_recognizer('x.pth', 'a.mp4')  # type: ignore[arg-type]


@pytest.mark.parametrize('value', [0, b'x.pth', None, ['x']])
def test_configs_and_checkpoints_must_be_paths(value: Any) -> None:
    for call in (load_config, build_model, init_recognizer):
        with pytest.raises(TypeError, match=f'must be a path .*{type(value).__name__}$'):
            call(value)
    with pytest.raises(TypeError, match=r'options: .*string'):
        load_config('custom/small_from_scratch', [value])


def test_device_must_be_known(data: Path) -> None:
    with pytest.raises(ValueError, match="device='gpu' .*'cpu' or 'cuda:0'"):
        init_recognizer(make_config(data), 'x.pth', device='gpu')


def test_checkpoint_alone_is_enough(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    names = [f'class {k}' for k in 'abcdefgh']
    file = save_model(config, tmp_path / 'x.pth', class_names=names, config=config)
    alone = init_recognizer(file, options=['model.average_views=prob'])
    beside = init_recognizer(config, file, options=['model.average_views=prob'])
    video = str(next(data.rglob('*.mp4')))
    assert inference_recognizer(alone, video) == inference_recognizer(beside, video)
    assert alone.class_names == names
    assert alone.model.average_views == 'prob'


def test_config_with_other_class_names_raises(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    names = (data / 'classes.txt').read_text().splitlines()
    config['test_dataloader']['dataset']['class_file'] = str(data / 'classes.txt')
    assert init_recognizer(config, save_model(config, tmp_path / 'bare.pth')).class_names == names
    file = save_model(config, tmp_path / 'x.pth', class_names=names[::-1], config=config)
    with pytest.raises(ValueError, match=rf"class 0 .*'{names[-1]}'.*x\.pth.*'{names[0]}'.*classes\.txt"):
        init_recognizer(config, file)
    assert init_recognizer(file).class_names == names[::-1]  # without the data of its config
    config['test_dataloader']['dataset']['class_file'] = 'nowhere.txt'
    assert init_recognizer(config, file).class_names == names[::-1]
    with pytest.raises(ValueError, match=r'short\.pth .* 2 .* 8 '):
        init_recognizer(config, save_model(config, tmp_path / 'short.pth', class_names=['a', 'b']))


def test_weights_without_config_raise(data: Path, tmp_path: Path) -> None:
    file = save_model(make_config(data), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=str(file)):
        init_recognizer(file)
    with pytest.raises(ValueError, match='checkpoint'):
        init_recognizer(make_config(data))


def test_wrong_num_snippets_raises_before_reading_videos(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    weights = save_model(config, tmp_path / 'x.pth')
    config['test_dataloader']['dataset']['pipeline'][1]['num_snippets'] = 3
    with pytest.raises(ValueError, match=r'test_dataloader.*num_snippets=3.*num_snippets=2'):
        init_recognizer(config, weights)
