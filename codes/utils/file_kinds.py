"""Name the kind of a file that is not what it should be, such as a web page that was saved as a checkpoint."""

from pathlib import Path

# Position and value of the first bytes, and the name.
ARCHIVES = (
    (0, b'\x1f\x8b', 'a gzip archive'),
    (0, b'BZh', 'a bzip2 archive'),
    (0, b'\xfd7zXZ\0', 'an xz archive'),
    (0, b'\x28\xb5\x2f\xfd', 'a Zstandard archive'),
    (0, b'7z\xbc\xaf\x27\x1c', 'a 7z archive'),
    (0, b'Rar!', 'a RAR archive'),
    (257, b'ustar', 'a tar archive'),
)
UNKNOWN_KIND = 'a file of unknown type'
_SIGNATURES = {
    b'version https://git-lfs': 'a Git LFS pointer, not the file itself; run `git lfs pull`',
    b'\x89HDF\r\n': 'an HDF5 file, such as weights of Keras',
    b'GGUF': 'a GGUF file',
    b'\x93NUMPY': 'a NumPy array',
    b'%PDF': 'a PDF file',
}
_SUFFIXES = {
    '.onnx': 'an ONNX file',
    '.tflite': 'a TensorFlow Lite file',
    '.pb': 'a TensorFlow file',
    '.index': 'a TensorFlow checkpoint',
    '.meta': 'a TensorFlow checkpoint',
    '.caffemodel': 'a Caffe file',
}
_TEXT = bytes(range(32, 256)) + b'\t\r\n\f'
_HTML = (b'<!doctype html', b'<html', b'<head')


def describe_kind(file: Path) -> str:
    """Return the kind of a file by its first bytes or its name, such as 'a gzip archive', or 'empty'.

    Raises:
        OSError: the file cannot be read.
    """
    size = file.stat().st_size
    with file.open('rb') as stream:
        start = stream.read(4096)
    text = start.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if not size:
        return 'empty'
    if text.startswith(_HTML):
        return 'a web page (HTML), such as an error page of a server; download the file again'
    if text.startswith(b'<?xml'):
        return 'an XML file, such as an error message of a server; download the file again'
    for position, signature, kind in ARCHIVES:
        if start.startswith(signature, position):
            return f'{kind}; extract it first'
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < size:
        return 'a safetensors file; load it with safetensors.torch.load_file and save the weights with torch.save'
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return kind
    if start[4:8] == b'TFL3':
        return _SUFFIXES['.tflite']
    if start.startswith(b'\x08') and (b'pytorch' in start[:64] or b'onnx' in start[:64]):
        return _SUFFIXES['.onnx']
    suffix = '.index' if file.suffix.startswith('.data-') else file.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if start[:1] == b'\x80' and start[1:2] in (b'\2', b'\3', b'\4', b'\5'):
        return 'a pickle of another program'
    if not start.strip(b'\0'):
        return 'a file of zeros, such as an incomplete download'
    is_text = b'\0' not in start and not start.translate(None, _TEXT)
    return 'a text file' if is_text else UNKNOWN_KIND
