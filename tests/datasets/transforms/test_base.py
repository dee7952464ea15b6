import pytest

from dsanet.datasets.transforms.base import Transform


@pytest.mark.parametrize(('old', 'new'), [('needs', 'requires'), ('gives', 'provides')])
def test_old_attribute_names_are_refused(old, new):
    with pytest.raises(TypeError, match=f'Mine.{old}.*{new}'):
        type('Mine', (Transform,), {old: ('frames',)})
