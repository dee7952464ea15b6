import pytest

from dsanet.datasets.transforms.base import Transform, check_count


def test_check_count_returns_valid_value():
    assert check_count('size', 1) == 1
    assert check_count('max_distort', 0, low=0) == 0


@pytest.mark.parametrize('value', [-1, 0.5, '3', None, False])
def test_check_count_states_name_and_value(value):
    with pytest.raises(ValueError, match=rf'size .*\b0\b.*{value!r}'):
        check_count('size', value, low=0)


@pytest.mark.parametrize(('old', 'new'), [('needs', 'requires'), ('gives', 'provides')])
def test_old_attribute_names_are_refused(old, new):
    with pytest.raises(TypeError, match=f'Mine.{old}.*{new}'):
        type('Mine', (Transform,), {old: ('frames',)})
