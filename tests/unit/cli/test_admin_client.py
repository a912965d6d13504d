"""Tests of mirrord/cli/admin_client.py, with a server in a thread."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.addresses import Address
from mirrord.cli.admin_client import AdminClient


class AdminClientTests(SynchronousTestCase):
    def serve(self, body: bytes) -> AdminClient:
        """Return a client of a server that responds to every GET with `body`."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.block_on_close = True, False
        thread = Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return AdminClient(Address.parse(f"http://127.0.0.1:{server.server_port}"))

    def test_long_line(self) -> None:
        """A repository with a hundred thousand tags, one line of a stream, is read whole."""
        repository = {"tags": [{"tag": f"t{number}", "digest": "x" * 71} for number in range(100_000)]}
        lines = [repository, {"tags": []}]
        client = self.serve(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self.assertEqual(lines, list(client.stream("GET", "/repositories")))
