"""Keys of timm's networks, without timm."""

import pytest
import torch

from dsanet.models.weights.layouts import TIMM, find_layout
from dsanet.models.weights.timm_layout import from_timm, is_for_timm_frames

STATE = {'conv1.weight': torch.zeros(4, 3, 3, 3), 'layer1.0.conv1.weight': torch.zeros(4, 4, 3, 3)}
FILE = {**STATE, 'fc.weight': torch.zeros(10, 4)}
BACKBONE = {f'net.{key}' for key in STATE}
RECOGNIZER = {f'backbone.{key}' for key in BACKBONE} | {'cls_head.fc_cls.weight'}


@pytest.mark.parametrize('target', [BACKBONE, RECOGNIZER])
def test_keys_of_the_network_get_its_prefix(target: set[str]) -> None:
    assert is_for_timm_frames(FILE, target)
    assert find_layout(FILE, target) is TIMM
    assert list(from_timm(FILE, target)) == [*(f'backbone.net.{key}' for key in STATE), 'fc.weight']
    wrapped = {f'backbone.{key}': value for key, value in STATE.items()}
    assert find_layout(wrapped, target) is TIMM
    assert list(from_timm(wrapped, target)) == [f'backbone.net.{key}' for key in STATE]


def test_other_networks_are_not_of_timm() -> None:
    video = {key: value.unsqueeze(2) for key, value in STATE.items()}
    assert not is_for_timm_frames(video, BACKBONE)
    assert not is_for_timm_frames(FILE, set())
    assert not is_for_timm_frames(FILE, {f'backbone.{key}' for key in STATE})
    assert not is_for_timm_frames({**STATE, 'a.weight': torch.zeros(1), 'b.weight': torch.zeros(1)}, BACKBONE)
    ours = {f'net.{key}': value for key, value in STATE.items()}
    assert find_layout(ours, BACKBONE).name == 'DSANet'
