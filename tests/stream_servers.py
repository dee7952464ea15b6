"""Streams for tests: a web server on loopback, and a named pipe."""

import contextlib
import http.server
import io
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.make_color_films import write_color_film


def make_ts(scenes: Sequence[tuple[str, int]], fps: int = 1) -> bytes:
    """Return a film of colors as MPEG-TS; with one frame per second, tests are always faster than real time."""
    content = io.BytesIO()
    write_color_film(content, scenes, format='mpegts', fps=fps)
    return content.getvalue()


@contextmanager
def serve(content: bytes, seconds: float = 0.0, share: float = 1.0) -> Iterator[str]:
    """Serve a stream on loopback and yield its URL.

    Args:
        content: what each client gets.
        seconds: how long sending takes, at a steady rate.
        share: only this share is sent, although the header has the full length.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header('Connection', 'close')
            if share < 1:
                self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            begin, sent = time.monotonic(), 0
            total = round(share * len(content))
            try:
                while sent < total:
                    elapsed = time.monotonic() - begin
                    until = total if elapsed >= seconds else int(total * elapsed / seconds)
                    self.wfile.write(content[sent:until])
                    sent = until
                    time.sleep(0.01)
            except OSError:  # the client is gone
                pass

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/live.ts'
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def pipe(path: Path, content: bytes, stays_open: bool = False) -> Iterator[str]:
    """Write content to a named pipe and yield its path; it is closed at once, or at the end if it ``stays_open``."""
    os.mkfifo(path)
    finished = threading.Event()

    def write() -> None:
        try:
            with path.open('wb') as stream:
                stream.write(content)
                stream.flush()
                if stays_open:
                    finished.wait()
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield str(path)
    finally:
        finished.set()
        thread.join()


@contextmanager
def serve_rtsp(content: bytes) -> Iterator[str]:
    """Serve MPEG-TS through RTSP (RFC 2326) to one client, as RTP in the TCP connection, and yield its URL."""
    description = b'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=live\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track0\r\n'
    replies = {
        b'OPTIONS': b'Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n',
        b'DESCRIBE': b'Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n' % len(description) + description,
        b'SETUP': b'Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n',
        b'PLAY': b'Session: 1\r\n\r\n',
    }

    def send_packets(connection: socket.socket) -> None:
        size = 7 * 188  # whole MPEG-TS packets
        for number, begin in enumerate(range(0, len(content), size)):
            payload = content[begin : begin + size]
            rtp = struct.pack('>BBHII', 0x80, 33, number, 0, 1) + payload
            connection.sendall(b'$' + struct.pack('>BH', 0, len(rtp)) + rtp)

    def answer() -> None:
        connection, _ = server.accept()
        with connection, connection.makefile('rb') as requests, contextlib.suppress(OSError):
            while request := requests.readline().split(b' ')[0]:
                headers = dict(line.split(b': ', 1) for line in iter(requests.readline, b'\r\n'))
                if request not in replies:
                    break
                connection.sendall(b'RTSP/1.0 200 OK\r\nCSeq: ' + headers[b'CSeq'] + replies[request])
                if request == b'PLAY':
                    send_packets(connection)
                    break

    with socket.create_server(('127.0.0.1', 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f'rtsp://127.0.0.1:{server.getsockname()[1]}/live'
        thread.join()
