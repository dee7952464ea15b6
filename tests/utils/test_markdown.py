from dsanet.utils.markdown import markdown_table


def test_table_aligns_and_escapes() -> None:
    assert markdown_table(['a', 'b'], [['x|y', '1.0']]).splitlines() == [
        '| a    |   b |',
        '| ---- | --: |',
        '| x\\|y | 1.0 |',
    ]


def test_several_columns_can_be_aligned_left() -> None:
    assert markdown_table(['a', 'b', 'c'], [['1', '2', '3']], num_left=2).splitlines() == [
        '| a   | b   |   c |',
        '| --- | --- | --: |',
        '| 1   | 2   |   3 |',
    ]
