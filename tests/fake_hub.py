"""A server on this machine with the requests of the Hugging Face Hub that one upload and one download need."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = 'hf_of_the_test'


class FakeHub(ThreadingHTTPServer):
    """Stores the files of repositories in memory.

    Attributes:
        repos: by name, files and their contents.
        requests: method and path of each request.
        is_down: whether every request is answered with an error of the server.
    """

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.is_down = False

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'

    def commit_of(self, repo: str) -> str:
        """Return the name of the only commit of a repository."""
        return hashlib.sha1(repr(sorted(self.repos[repo].items())).encode()).hexdigest()


@contextmanager
def serve_hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = Thread(target=hub.serve_forever, kwargs={'poll_interval': 0.02})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self.server.requests.append(f'{self.command} {self.path}')
        path = self.path.partition('?')[0]
        if self.server.is_down:
            self.answer(500, {'error': 'out of order'})
        elif path == '/api/whoami-v2':
            is_known = self.headers.get('Authorization') == f'Bearer {TOKEN}'
            self.answer(*((200, {'name': 'user', 'type': 'user'}) if is_known else (401, {'error': 'Invalid'})))
        elif found := re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', path):
            self.answer_file(*found.groups())
        else:
            self.answer_unknown()

    do_HEAD = do_GET

    def answer_file(self, repo: str, revision: str, name: str) -> None:
        files = self.server.repos.get(repo)
        if files is None:
            self.answer(404, {}, {'X-Error-Code': 'RepoNotFound'})
        elif revision not in ('main', commit := self.server.commit_of(repo)):
            self.answer(404, {}, {'X-Error-Code': 'RevisionNotFound'})
        elif name not in files:
            self.answer(404, {}, {'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': commit})
        else:
            tag = hashlib.sha256(files[name]).hexdigest()
            self.answer(200, files[name], {'ETag': f'"{tag}"', 'X-Repo-Commit': commit})

    def do_POST(self) -> None:
        self.server.requests.append(f'{self.command} {self.path}')
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        path = self.path.partition('?')[0]
        if self.server.is_down:
            self.answer(500, {'error': 'out of order'})
        elif self.command == 'PUT':
            self.server.objects[path.rpartition('/')[2]] = body
            self.answer(200, {})
        elif path == '/api/repos/create':
            content = json.loads(body)
            repo = '/'.join(filter(None, (content.get('organization', 'user'), content['name'])))
            self.server.repos.setdefault(repo, {})
            self.answer(200, {'url': f'{self.server.url}/{repo}', 'name': repo})
        elif path == '/api/validate-yaml':
            self.answer(200, {'errors': [], 'warnings': []})
        elif re.fullmatch(r'/api/models/(.+)/preupload/main', path):
            self.answer(200, {'files': [self.upload_mode(file) for file in json.loads(body)['files']]})
        elif path.endswith('.git/info/lfs/objects/batch'):
            self.answer(200, {'objects': [self.upload_action(one) for one in json.loads(body)['objects']]})
        elif found := re.fullmatch(r'/api/models/(.+)/commit/main', path):
            self.commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer_unknown()

    do_PUT = do_POST

    def upload_mode(self, file: dict[str, Any]) -> dict[str, Any]:
        is_large = file['path'].endswith('.safetensors')
        return {'path': file['path'], 'uploadMode': 'lfs' if is_large else 'regular', 'shouldIgnore': False}

    def upload_action(self, file: dict[str, Any]) -> dict[str, Any]:
        return {**file, 'actions': {'upload': {'href': f'{self.server.url}/objects/{file["oid"]}', 'header': {}}}}

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.repos[repo]
        for line in lines:
            value = line['value']
            if line['key'] == 'file':
                files[value['path']] = base64.b64decode(value['content'])
            elif line['key'] == 'lfsFile':
                files[value['path']] = self.server.objects[value['oid']]
        commit = self.server.commit_of(repo)
        self.answer(200, {'commitUrl': f'{self.server.url}/{repo}/commit/{commit}', 'commitOid': commit})

    def answer_unknown(self) -> None:
        self.server.unknown.append(self.path)
        self.answer(404, {'error': 'unknown request'})

    def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of tests free of requests."""
