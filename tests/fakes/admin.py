"""An admin listener without a daemon: it sends the responses that a test has set."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs

FakeResponse = tuple[int, object]
"""A status and a document; a list is a stream of documents, one per line.

In a stream a float is a pause in seconds, and None closes the connection.
"""


@attrs.frozen
class RecordedRequest:
    """A request that was received."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@attrs.define(eq=False)
class FakeAdmin:
    """Responds at a Unix socket by method and path, else with 404; records all requests in order."""

    path: Path
    responses: dict[tuple[str, str], FakeResponse] = attrs.field(factory=dict)
    requests: list[RecordedRequest] = attrs.field(factory=list, init=False)
    _server: ThreadingUnixStreamServer = attrs.field(init=False)

    def start(self) -> None:
        """Listen at the socket."""
        self.path.unlink(missing_ok=True)
        self._server = ThreadingUnixStreamServer(str(self.path), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The endpoint that it listens on."""
        return f"unix:{self.path}"

    def respond(self, method: str, path: str, document: object, status: int = 200) -> None:
        """Set the response to a request."""
        self.responses[method, path] = (status, document)

    def reject(self, method: str, path: str, status: int, message: str) -> None:
        """Set an error response, in the form of the daemon's."""
        errors = [{"code": "UNKNOWN", "message": message, "detail": None}]
        self.respond(method, path, {"errors": errors}, status)


def _handler(admin: FakeAdmin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            admin.requests.append(RecordedRequest(self.command, url.path, query, dict(self.headers)))
            missing = (404, {"errors": [{"code": "NAME_UNKNOWN", "message": "not found", "detail": None}]})
            status, document = admin.responses.get((self.command, url.path), missing)
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

        do_GET = do_POST = do_DELETE = _respond  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    return Handler
