"""The checkpoint in pretrained/, and its card."""

from pathlib import Path

import torch

from dsanet.config.registry import MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.data_tools.ordered_actions import CLASSES, make_dataset
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader
from dsanet.inference.checkpoint_config import config_for_checkpoint
from dsanet.inference.model_sources import read_model
from dsanet.models.weights.loading import load_weights
from dsanet.utils.files import hash_file

ROOT = Path(__file__).parents[1]
FILE = ROOT / 'pretrained/dsanet_ordered_actions.safetensors'


def test_demo_checkpoint_is_small_and_complete() -> None:
    content = read_model(FILE)[1]
    assert FILE.stat().st_size <= 1_000_000
    assert content['class_names'] == list(CLASSES)
    assert {value.dtype for value in content['state_dict'].values()} == {torch.float16, torch.int64}
    assert hash_file(FILE) in (ROOT / 'pretrained/README.md').read_text()


def test_demo_checkpoint_classifies_new_videos(tmp_path: Path) -> None:
    make_dataset(tmp_path / 'data', num_videos=16, seed=99, val_fraction=0.5, size=40)
    paths = {'list_file': 'val.txt', 'data_root': '', 'class_file': 'classes.txt'}
    options = [f'test_dataloader.dataset.{key}={tmp_path / "data" / name}' for key, name in paths.items()]
    content = read_model(FILE)[1]
    config = config_for_checkpoint(FILE, content, None, options)
    model = build(config['model'], MODELS)
    load_weights(model, FILE, strict=True, content=content)
    loader = build_loader(config['test_dataloader'], 'test_dataloader', RuntimeCfg())
    result = predict(model, loader, torch.device('cpu'))
    assert (result.scores.argmax(axis=1) == result.labels).all()
