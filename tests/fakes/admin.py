"""An admin listener without a daemon behind it: it answers what the test has written down."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs

Answer = tuple[int, object]
"""A status, and a document; a list is a stream of documents, a line each.

In a stream a float is a pause, in seconds, and None is where it breaks off.
"""


@attrs.frozen
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@attrs.define(eq=False)
class FakeAdmin:
    """Answers by method and path; what it has no answer for is 404. `asked` is what came, in order."""

    answers: dict[tuple[str, str], Answer] = attrs.field(factory=dict)
    asked: list[Asked] = attrs.field(factory=list, init=False)
    _server: ThreadingHTTPServer = attrs.field(init=False)

    def start(self) -> None:
        """Listen at a free port."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Where it listens, as a configuration says it."""
        return f"tcp:{self._server.server_address[1]}:interface=127.0.0.1"

    def answer(self, method: str, path: str, document: object, status: int = 200) -> None:
        """Have this answered from now on."""
        self.answers[method, path] = (status, document)

    def refuse(self, method: str, path: str, status: int, message: str) -> None:
        """Have this refused from now on, as the daemon refuses."""
        errors = [{"code": "UNKNOWN", "message": message, "detail": None}]
        self.answer(method, path, {"errors": errors}, status)


def _handler(admin: FakeAdmin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            admin.asked.append(Asked(self.command, url.path, query, dict(self.headers)))
            missing = (404, {"errors": [{"code": "NAME_UNKNOWN", "message": "not here", "detail": None}]})
            status, document = admin.answers.get((self.command, url.path), missing)
            self.send_response(status)
            if isinstance(document, list):
                self._stream(document)
                return
            body = json.dumps(document).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, documents: Sequence[Any]) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for document in documents:
                if document is None:
                    self.close_connection = True
                    return
                if isinstance(document, float):
                    time.sleep(document)
                    continue
                line = json.dumps(document).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    return Handler
