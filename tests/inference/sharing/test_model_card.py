from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from dsanet.inference.sharing.model_card import write_card
from dsanet.inference.sharing.publishing import publish
from dsanet.utils.checkpoint_io import save_atomically


def read_card(folder: Path) -> ModelCard:
    return ModelCard.load(folder / 'README.md')


def test_front_matter_is_read_by_the_hub(checkpoint: Path, tmp_path: Path) -> None:
    publish(checkpoint, tmp_path / 'my-model', license_id='cc-by-4.0', repo='me/my-model')
    card = read_card(tmp_path / 'my-model')
    assert card.data.license == 'cc-by-4.0'
    assert card.data.library_name == 'dsanet'
    assert card.data.pipeline_tag == 'video-classification'
    assert card.data.model_name == 'my-model'
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found == {'top1': 62.5, 'loss': 1.25}
    assert {result.dataset_name for result in card.data.eval_results} == {'ordered/val.txt'}


def test_card_has_use_costs_data_and_metrics(checkpoint: Path, tmp_path: Path) -> None:
    publish(checkpoint, tmp_path / 'out')
    text = (tmp_path / 'out/README.md').read_text()
    assert '    dsanet predict local-dir:FOLDER VIDEO\n' in text
    assert "load_recognizer('local-dir:FOLDER')" in text
    # 2 snippets x 2 frames x 3 channels x 16 x 16
    for row in ('| Parameters | ', '| Input of a view | 2 snippets x 2 frames x 3 channels x 16 x 16 pixels |'):
        assert row in text
    assert 'ordered/train.txt' in text
    assert '| top1 | 62.5 |' in text
    assert '0. moving right: disc then cross\n' in text


@pytest.mark.parametrize(
    ('root', 'file', 'name'),
    [
        ('films/videos', 'films/train.csv', 'films/train.csv'),
        ('data/films', 'train.csv', 'films/train.csv'),
        ('data/films/', None, 'films'),
        (None, 'train.csv', 'train.csv'),
    ],
)
def test_card_names_the_training_list(root: str | None, file: str | None, name: str) -> None:
    description = {
        'num_classes': 1,
        'id2label': {'0': 'wave'},
        'sampling': None,
        'normalization': {'mean': [0.0], 'std': [1.0]},
        'config': {'model': {'type': 'Recognizer3D'}},
    }
    checkpoint = {'config': {'train_dataloader': {'dataset': {'data_root': root, 'list_file': file}}}}
    assert f' {name}.\n' in write_card('x', description, checkpoint, None, 'mit', None)


@pytest.mark.parametrize('change', [{'epoch': 3}, {'iteration': 5}, {'best': None}, {'best': 3}])
def test_metrics_of_other_weights_are_left_out(change: dict, content: dict[str, Any], tmp_path: Path) -> None:
    save_atomically({**content, **change}, tmp_path / 'x.pth')
    publish(tmp_path / 'x.pth', tmp_path / 'out')
    assert not read_card(tmp_path / 'out').data.eval_results
    assert '62.5' not in (tmp_path / 'out/README.md').read_text()


def test_names_cannot_change_the_card() -> None:
    description = {
        'num_classes': 51,
        'id2label': {str(number): 'a\n# b\udcff *c* [d](e)' for number in range(51)},
        'sampling': None,
        'normalization': {'mean': [0.0], 'std': [1.0]},
        'config': {'model': {'type': 'Recognizer3D'}},
    }
    text = write_card('x\n---\n`y`', description, {}, None, 'other: "1"', None)
    card = ModelCard(text)
    assert card.data.license == 'other: "1"'
    lines = text.splitlines()
    assert lines.count('---') == 2
    assert [line for line in lines if line.startswith('# ')] == [r'# x\\n---\\n\`y\`']
    assert r'0. a\\n\# b\\udcff \*c\* \[d\](e)' in lines
    assert sum('udcff' in line for line in lines) == 50
