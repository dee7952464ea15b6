"""dsanet scaling."""

import pytest

from dsanet import commands

PARTS = '--step 0.3 --batch-size 8 --decode 0.15 --video-mb 1 --network 10 --storage 1000 --cores 50'.split()


def test_tables_have_a_line_for_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(['scaling', *PARTS, '--gradient-mb', '100', '--gpus', '8', '64', '256']) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ('8', '64', '256')] == ['8', '64', '256'] * 3
    # 64 videos of 0.15 s in 0.3 s, and 1 MB each; the last bucket of 25 MiB takes 4.6 ms.
    assert rows[4][:4] == ['8', '1', '32', '210']
    assert '8 GPUs: limited by the GPUs' in out
    assert '64 GPUs: limited by the storage' in out
    # 246,245 videos at 1000 MB/s
    assert rows[-7][:3] == ['256', '1,000', '4.1']


def test_gradients_follow_from_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    args = ['scaling', *PARTS, '--config', 'kinetics/r50_e100_s1_8', '--gpus', '8']
    assert commands.main(args) == 0
    assert capsys.readouterr().out.startswith('Gradients of 130 MB')


@pytest.mark.parametrize('args', [['--gpus', '12'], ['--cfg-options', 'a=1']])
def test_wrong_arguments_exit_with_two(args: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        commands.main(['scaling', *PARTS, '--gradient-mb', '100', *args])
    assert error.value.code == 2
