import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsanet.config.imports import import_modules
from dsanet.config.registry import METRICS

METRIC = """
from dsanet.config.registry import METRICS

@METRICS.register_module()
class LabMetric:
    pass
"""


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty working directory; remove the modules that the test imported."""
    monkeypatch.chdir(tmp_path)
    before = [*sys.path, *sys.meta_path]
    yield
    assert [*sys.path, *sys.meta_path] == before
    for name in [name for name in sys.modules if name.startswith('my_lab')]:
        del sys.modules[name]
    METRICS.module_dict.pop('LabMetric', None)


def write(**files: str) -> None:
    for name, text in files.items():
        file = Path(*name.split('__')).with_suffix('.py')
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def test_module_in_working_directory_registers_its_classes() -> None:
    write(my_lab__blocks=METRIC)
    import_modules(['my_lab.blocks'])
    assert METRICS.module_dict['LabMetric'].__module__ == 'my_lab.blocks'


def test_modules_in_given_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(my_lab__my_lab_two='import my_lab_three', my_lab__my_lab_three='')
    import_modules(['my_lab_two'], [tmp_path / 'my_lab'])
    assert 'my_lab_three' in sys.modules


def test_installed_modules_come_first() -> None:
    write(json='raise OSError')
    sys.modules.pop('json.tool', None)
    import_modules(['json.tool'])


def test_same_file_can_be_imported_under_two_names() -> None:
    write(my_lab__blocks=METRIC)
    import_modules(['my_lab.blocks'])
    import_modules(['my_lab.blocks'])
    del sys.modules['my_lab.blocks']
    import_modules(['my_lab.blocks'])
    import_modules(['blocks'], [Path('my_lab')])
    assert METRICS.module_dict['LabMetric'].__module__ == 'blocks'
    del sys.modules['blocks']


@pytest.mark.parametrize('name', ['my_lab', 'my_lab.blocks', 'json.blocks'])
def test_missing_module_error_lists_searched_folders(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf'{name}.*{tmp_path}'):
        import_modules([name])


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('x = 1\nimport nowhere', r'my_lab/blocks\.py:2\b.*nowhere'),
        ('\n\n1 / 0', r'my_lab/blocks\.py:3\b.*ZeroDivisionError'),
        ('import my_lab.more\nmy_lab.more.f()', r'my_lab/more\.py:2\b.*KeyError'),
        ('import json\n\njson.loads("{")', r'my_lab/blocks\.py:3\b.*JSONDecodeError'),
        ('x = 1\nx = (', r'my_lab/blocks\.py:2\b.*SyntaxError'),
        ('raise SystemExit', r'my_lab/blocks\.py:1\b.*SystemExit'),
        (METRIC.replace('LabMetric', 'Accuracy'), r'my_lab/blocks\.py:4\b.*KeyError.*Accuracy'),
    ],
)
def test_import_failure_names_line_and_reason(text: str, reason: str) -> None:
    write(my_lab__blocks=text, my_lab__more="def f():\n    {}['x']")
    with pytest.raises(ValueError, match=f'my_lab.blocks.*{reason}'):
        import_modules(['my_lab.blocks'])


@pytest.mark.parametrize('names', ['my_lab', [3], [''], None, {'my_lab': 1}])
def test_invalid_imports_raise(names: object) -> None:
    with pytest.raises(ValueError, match='imports='):
        import_modules(names)


@pytest.mark.parametrize('name', ['my_lab/parts.py', './my_lab/parts', 'my_lab/parts'])
def test_path_instead_of_module_suggests_the_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"'my_lab\.parts'"):
        import_modules([name])


@pytest.mark.parametrize('name', ['os.path; x', 'a b', '1.2'])
def test_name_that_cannot_be_mended_is_not_suggested(name: str) -> None:
    with pytest.raises(ValueError, match='imports') as refused:
        import_modules([name])
    assert str(refused.value).count(name) == 1
