import pytest

from dsanet.utils.class_names import ClassNames, check_same_class_names


@pytest.mark.parametrize(
    ('names', 'others', 'message'),
    [
        (['a', 'b', 'c'], ['a', 'c', 'b'], r"class 1 .*'b'.* train.*'c'.* test.*order"),
        (['a', 'b', 'c'], ['a', 'b', 'd'], r"class 2 .*'c'.* train.*'d'.* test$"),
        (['a', 'b'], ['a'], r"class 1 .*'b'.* train.*missing.* test .*2.*1"),
        (['b'], ['a', 'b'], r"class 0 .*'b'.* train.*'a'.* test .*1.*2"),
        (['a', 'b'], ['a', 'B'], r"class 1 .*'b'.*'B'"),
        (['a'], ['a\nb'], r"class 0 .*'a'.*'a\\nb'"),  # in one line
    ],
)
def test_first_class_that_differs_is_named(names: list[str], others: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_same_class_names(ClassNames(names, 'train'), ClassNames(others, 'test'))


@pytest.mark.parametrize(
    ('names', 'others'), [(['a', 'b'], ('a', 'b')), (None, ['a']), (['a'], None), (['caf\xe9'], ['cafe\u0301'])]
)
def test_equal_or_unknown_class_names_match(names: list[str] | None, others: list[str] | None) -> None:
    check_same_class_names(ClassNames(names, 'x'), ClassNames(others, 'y'))
