"""Commands and Python code in all pages."""

import ast
import re

import pytest

import dsanet
from dsanet import commands
from tests.docs.pages import PAGES, code_blocks

SCRIPTS = {
    'bash dist_train_recognizer.sh': 'train',
    'bash dist_test_recognizer.sh': 'test',
    'bash tools/slurm_train.sh': 'train',
    'bash tools/slurm_test.sh': 'test',
    'tools/train_recognizer.py': 'train',
}


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        commands.main([*command.split(), '--help'])
    return set(re.findall(r'(?<![\w-])--[a-z][\w-]*', capsys.readouterr().out))


def calls(text: str) -> list[tuple[str, list[str]]]:
    """Return the calls of commands in blocks of code: name, of a benchmark also the kind, and options."""
    lines = [line.split(' #')[0] for line in text.replace('\\\n', ' ').splitlines()]
    found = []
    for line in lines:
        for script, command in SCRIPTS.items():
            line = line.replace(script, f'dsanet {command}')
        if match := re.search(r'^(?:    |[$] )?.*?\bdsanet ((?:benchmark )?[a-z][a-z-]*)(.*)$', line):
            if line.startswith('    ') or line.startswith('dsanet '):
                found.append((match[1], re.findall(r'(?<![\w-])--[a-z][\w-]*', match[2])))
    return found


@pytest.mark.parametrize('page', PAGES)
def test_commands_and_their_options_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in calls(PAGES[page]):
        assert command.split()[0] in commands.COMMANDS, command
        assert set(options) <= options_of(command, capsys), (command, options)


def test_pages_with_commands_are_found() -> None:
    assert sum(len(calls(text)) for text in PAGES.values()) > 60


def test_reference_has_every_command() -> None:
    page = PAGES['docs/commands.md']
    assert re.findall(r'^## dsanet (\S+)$', page, flags=re.M) == list(commands.COMMANDS)
    assert re.findall(r'^```\{command-help\} (\S+)$', page, flags=re.M) == list(commands.COMMANDS)


@pytest.mark.parametrize('page', PAGES)
def test_python_blocks_use_public_names(page: str) -> None:
    for block in code_blocks(PAGES[page], 'python'):
        tree = ast.parse(block)
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_dsanet(node.value)}
        names |= {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == 'dsanet'
            for alias in node.names
        }
        assert names <= set(dsanet.__all__), names


def is_dsanet(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == 'dsanet'


def test_getting_started_builds_a_model() -> None:
    block = code_blocks(PAGES['docs/getting_started.md'], 'python')[0]
    names: dict[str, object] = {}
    exec(block, names)
    assert type(names['model']).__name__ == 'Recognizer3D'
