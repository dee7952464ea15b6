import pytest

from dsanet import commands


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--size 41', 'size is 41'),
        ('--size 16', 'size is 16'),
        ('--seed -1', 'seed is -1'),
        ('--val-fraction 1', 'val_fraction is 1.0'),
        ('--num-videos 20', 'num_videos=20'),
    ],
)
def test_wrong_arguments_are_refused_in_words(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match='2'):
        commands.main(['make-demo-videos', str(tmp_path / 'out'), *arguments.split()])
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_it_says_in_one_line_what_it_did(tmp_path, capsys):
    out = tmp_path / 'out'
    words = ['make-demo-videos', str(out), *'--num-videos 16 --val-fraction 0.5 --size 32'.split()]
    assert commands.main(words) == 0
    assert capsys.readouterr().out == (
        f'wrote 8 training and 8 validation videos to {out}: 8 classes, 63 frames of 32x32 pixels each\n'
    )
    assert commands.main(words) == 0
    assert capsys.readouterr().out == f'{out} already holds this dataset, nothing to do\n'
