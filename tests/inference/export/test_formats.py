import importlib.util

import pytest

from dsanet.inference.export.formats import FORMATS, check_installed, first_line


def test_first_line_names_the_operator() -> None:
    inner = RuntimeError("No ONNX function found for <OpOverload(op='aten.det', overload='default')>")
    outer = RuntimeError('Failed to decompose\nmore')
    assert first_line(outer) == 'Failed to decompose'
    outer.__cause__ = inner
    assert 'aten.det ' in first_line(outer)
    assert first_line(KeyError()) == 'KeyError'


@pytest.mark.parametrize('form', FORMATS)
def test_missing_packages_are_named(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    if form == 'pt2':
        check_installed(form)
        return
    with pytest.raises(ValueError, match=f'pip install {" ".join(FORMATS[form].modules)}$'):
        check_installed(form)
