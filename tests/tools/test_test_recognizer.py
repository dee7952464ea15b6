import argparse
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from codes.engine.checkpoint import read_checkpoint
from tests.tools.conftest import Run


@pytest.mark.sweep
def test_evaluation_is_the_same_on_one_and_on_two_processes(
    run: Run, config: Path, straight: Path, tmp_path: Path
) -> None:
    results = []
    for processes, name in ((1, 'one.json'), (2, 'two.pkl')):
        out = tmp_path / name
        done = run('dist_test_recognizer.sh', config, straight / 'best.pth', processes, '--out', out)
        numbers = re.search(r'7 videos  (top1 .*)', done.stdout)[1]
        results.append(
            (numbers, json.loads(out.read_text()) if out.suffix == '.json' else pickle.loads(out.read_bytes()))
        )
    (numbers1, one), (numbers2, two) = results
    assert numbers1 == numbers2
    assert [(r['path'], r['label']) for r in one] == [(r['path'], r['label']) for r in two]
    assert len({r['path'] for r in one}) == 7
    np.testing.assert_allclose([r['scores'] for r in one], [r['scores'] for r in two], rtol=1e-4, atol=1e-5)
    top1 = np.mean([np.argmax(r['scores']) == r['label'] for r in one]) * 100
    assert f'top1 {top1:.2f}' in numbers1


@pytest.mark.sweep
def test_options_of_the_tests_command_take_effect(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--average-views', 'prob', '--max-views-per-forward', 1, '--amp', 'bf16']
    run('dist_test_recognizer.sh', config, straight / 'best.pth', 1, '--out', tmp_path / 'x.json', *options)
    scores = np.array([r['scores'] for r in json.loads((tmp_path / 'x.json').read_text())])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-4)


@pytest.mark.sweep
def test_a_checkpoint_that_needs_code_is_tested_if_that_is_allowed(
    run: Run, config: Path, straight: Path, tmp_path: Path
) -> None:
    state = read_checkpoint(straight / 'best.pth')['state_dict']
    torch.save({'state_dict': state, 'args': argparse.Namespace(lr=0.1)}, tmp_path / 'old.pth')
    done = run('dist_test_recognizer.sh', config, tmp_path / 'old.pth', 1, '--allow-pickle')
    assert 'holds argparse.Namespace; because of --allow-pickle' in done.stdout + done.stderr
    assert re.search(r'7 videos  top1 ', done.stdout)
