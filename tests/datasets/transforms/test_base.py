import pytest

from dsanet.datasets.transforms.base import Transform, check_count


def test_check_count_hands_a_good_value_back():
    assert check_count('size', 1) == 1
    assert check_count('max_distort', 0, low=0) == 0


@pytest.mark.parametrize('value', [-1, 0.5, '3', None, False])
def test_check_count_states_name_and_value(value):
    with pytest.raises(ValueError, match=f'size must be a whole number of at least 0, got {value!r}'):
        check_count('size', value, low=0)


def test_a_transform_must_say_what_it_does():
    with pytest.raises(TypeError, match='abstract'):
        Transform()
