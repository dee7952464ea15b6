import errno
import re

import pytest

from dsanet import commands


@pytest.mark.parametrize(
    ('arguments', 'tokens'),
    [
        ('--size 41', ['size', '41', '32']),
        ('--seed -1', ['seed', '-1']),
        ('--val-fraction 1', ['val_fraction', '1.0']),
        ('--num-videos 20', ['20', '0.25', '15', '5']),
    ],
)
def test_invalid_arguments_are_reported(tmp_path, capsys, arguments, tokens):
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['make-demo-videos', str(tmp_path / 'out'), *arguments.split()])
    error = capsys.readouterr().err
    assert all(token in error for token in tokens), error
    assert not (tmp_path / 'out').exists()


def test_result_is_reported_in_one_line(tmp_path, capsys):
    out = tmp_path / 'out'
    argv = ['make-demo-videos', str(out), *'--num-videos 16 --val-fraction 0.5 --size 32'.split()]
    assert commands.main(argv) == 0
    assert re.search(f' 8 .* 8 .*{out}: 8 .* 63 .* 32x32', capsys.readouterr().out)
    assert commands.main(argv) == 0
    assert str(out) in capsys.readouterr().out


def test_full_disk_is_reported(tmp_path, monkeypatch, capsys):
    def fail(content, file):
        raise OSError(errno.ENOSPC, 'full', str(file))

    monkeypatch.setattr('dsanet.data_tools.ordered_actions.write_atomically', fail)
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['make-demo-videos', str(tmp_path / 'out')])
    assert 'arguments.json' in capsys.readouterr().err
