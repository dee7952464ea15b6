import pytest
import torch

from dsanet.models.weights.renaming import has_key, ndim, rename


def test_patterns_apply_in_order_and_add_the_prefix() -> None:
    state = {'a.x': torch.zeros(1), 'fc.bias': torch.zeros(2)}
    renamed = rename((r'^a\.', 'b.'), (r'^b\.', 'c.'))(state, set())
    assert list(renamed) == ['backbone.c.x', 'fc.bias']
    assert renamed['backbone.c.x'] is state['a.x']
    assert list(rename()({'backbone.a': torch.zeros(1), 'other': torch.zeros(1)}, set())) == ['backbone.a', 'other']


def test_two_keys_with_one_meaning_raise() -> None:
    with pytest.raises(ValueError, match=r"'b\.x'.*'backbone\.a\.x'"):
        rename((r'^b\.', 'a.'))({'a.x': torch.zeros(1), 'b.x': torch.zeros(1)}, set())


def test_keys_are_found_by_pattern_and_dimensions() -> None:
    state = {'conv.weight': torch.zeros(1, 2, 3)}
    assert has_key(r'^conv\.w')(state)
    assert not has_key(r'^weight')(state)
    assert (ndim(state, 'conv.weight'), ndim(state, 'conv.bias')) == (3, 0)
