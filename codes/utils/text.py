"""Text from outside, such as names of files and classes, made fit to be shown."""


def printable(text: str) -> str:
    """Return a text that every terminal, file and picture takes: names of files need not be UTF-8."""
    return text.encode('utf-8', 'backslashreplace').decode()
