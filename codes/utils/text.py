"""Text from outside, such as file and class names, made printable."""


def printable(text: str) -> str:
    """Escape characters that are not valid UTF-8, which file names may contain."""
    return text.encode('utf-8', 'backslashreplace').decode()
