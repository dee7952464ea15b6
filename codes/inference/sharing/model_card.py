"""The model card of a published model: Markdown with the YAML front matter of the Hugging Face Hub."""

import json
import re
from collections.abc import Mapping
from typing import Any

from dsanet.inference.model_sources import CONFIG_FILE, HF_HUB, LIBRARY, LOCAL_DIR
from dsanet.inference.sharing.run_facts import find_run_facts
from dsanet.utils.text import printable

_MAX_CLASSES = 50  # all names are in config.json
_PIPELINE = 'video-classification'
_TAGS = (_PIPELINE, 'action-recognition', LIBRARY)
_MARKUP = re.compile(r'([\\`*_{}\[\]<>#|!~$&])')


def write_card(
    name: str,
    description: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    costs: Mapping[str, Any] | None,
    license_id: str,
    repo: str | None,
) -> str:
    """Return the text of a model card.

    Args:
        name: of the model.
        description: content of ``config.json``.
        checkpoint: content of the checkpoint; one of a run has its data and its metrics.
        costs: from ``summarize_model``; None if they are unknown.
        license_id: such as 'apache-2.0'.
        repo: USER/NAME on the Hub, or None.
    """
    name = printable(name)
    facts = find_run_facts(checkpoint)
    metrics, val_data = facts.get('metrics', {}), facts.get('val_data', '')
    front: dict[str, Any] = {
        'library_name': LIBRARY,
        'pipeline_tag': _PIPELINE,
        'license': license_id,
        'tags': list(_TAGS),
    }
    if metrics:
        front['model-index'] = [{'name': name, 'results': [_result(metrics, val_data)]}]
    source = f'{HF_HUB}{repo}' if repo else f'{LOCAL_DIR}FOLDER'
    sections = [
        '\n'.join(['---', *(f'{key}: {json.dumps(value, ensure_ascii=False)}' for key, value in front.items()), '---']),
        f'# {_escape(name)}',
        f'A video action recognizer with {description["num_classes"]} classes: {_architecture(description)}.',
        '## Use',
        f'    dsanet predict {source} VIDEO',
        '\n'.join(
            [
                '```python',
                'from dsanet import load_recognizer',
                '',
                f'recognizer = load_recognizer({source!r})',
                "print(recognizer('video.mp4'))",
                '```',
            ]
        ),
        '## Classes',
        _classes(list(description['id2label'].values())),
        '## Model',
        _table(_facts(description, costs)),
        '## Data',
        _data_text(facts.get('train_data', '')),
        '## Metrics',
        _metrics_text(facts),
        '## License',
        _escape(license_id),
    ]
    return '\n\n'.join(sections) + '\n'


def _architecture(description: Mapping[str, Any]) -> str:
    model = description['config']['model']
    inserted = model.get('module_cfg') or {}
    names = [str(part['type']) for part in (model.get('backbone') or {}, inserted) if 'type' in part]
    return _escape(' with '.join(names)) or _escape(str(model['type']))


def _classes(names: list[str]) -> str:
    shown = [f'{number}. {_escape(name)}' for number, name in enumerate(names[:_MAX_CLASSES])]
    more = [f'\nAnd {len(names) - _MAX_CLASSES} more in `{CONFIG_FILE}`.'] if len(names) > _MAX_CLASSES else []
    return '\n'.join(shown + more)


def _facts(description: Mapping[str, Any], costs: Mapping[str, Any] | None) -> dict[str, str]:
    facts = {}
    if costs is not None:
        snippets, channels, frames, height, width = costs['input_shape'][2:]
        facts['Parameters'] = f'{costs["params"]:,}'
        facts['GMACs per view'] = f'{costs["gmacs"]:.3f}'
        facts['Input of a view'] = (
            f'{snippets} snippets x {frames} frames x {channels} channels x {height} x {width} pixels'
        )
    sampling = dict(description['sampling'] or {})
    facts['Sampling'] = f'{sampling.pop("type", "")}({", ".join(f"{k}={v!r}" for k, v in sampling.items())})'
    normalization = description['normalization']
    facts['Normalization (pixels 0 to 255)'] = f'mean {normalization["mean"]}, std {normalization["std"]}'
    return facts


def _data_text(data: str) -> str:
    return f'Trained on {_escape(data)}.' if data else 'The checkpoint does not name its training data.'


def _metrics_text(facts: Mapping[str, Any]) -> str:
    if 'metrics' not in facts:
        return 'The checkpoint has no metrics; measure them with `dsanet test`.'
    rows = {key: f'{value:.4g}' for key, value in facts['metrics'].items()}
    where = f' on {_escape(facts["val_data"])}' if 'val_data' in facts else ''
    return f'Validation{where} after epoch {facts["epoch"]}:\n\n{_table(rows)}'


def _result(metrics: Mapping[str, float], data: str) -> dict[str, Any]:
    """Return an entry of ``model-index``."""
    return {
        'task': {'type': _PIPELINE},
        'dataset': {'name': printable(data) or 'validation data', 'type': 'video'},
        'metrics': [{'type': key, 'value': value} for key, value in metrics.items()],
    }


def _table(rows: Mapping[str, str]) -> str:
    lines = [f'| {_escape(key)} | {_escape(value)} |' for key, value in rows.items()]
    return '\n'.join(['| | |', '|---|---|', *lines])


def _escape(text: str) -> str:
    return _MARKUP.sub(r'\\\1', printable(text))
