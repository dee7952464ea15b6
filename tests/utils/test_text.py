from dsanet.utils.text import printable


def test_non_utf8_text_is_escaped() -> None:
    assert printable(b'caf\xe9.mp4'.decode('utf-8', 'surrogateescape')) == 'caf\\udce9.mp4'
    assert printable('日本 é') == '日本 é'
