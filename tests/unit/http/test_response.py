"""Responses are formatted as HTTP requires, and values cannot inject headers."""

import json

from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.response import Response
from mirrord.oci.errors import NameUnknown, UpstreamBusy


class AnswerTests(SynchronousTestCase):
    def test_head(self) -> None:
        """The head has the status, every header, and the length."""
        answer = Response.whole(200, b"{}", (b"Content-Type", b"application/json"))

        self.assertEqual(
            b"HTTP/1.1 200 OK\r\nX-Content-Type-Options: nosniff\r\n"
            b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
            b"Content-Type: application/json\r\nDate: now\r\nContent-Length: 2\r\n\r\n",
            answer.head(b"HTTP/1.1", (b"Date", b"now")),
        )

    def test_no_length(self) -> None:
        """Without a length there is no Content-Length."""
        head = Response(304, (), None).head(b"HTTP/1.0")

        self.assertTrue(head.startswith(b"HTTP/1.0 304 Not Modified\r\n"))
        self.assertNotIn(b"Content-Length", head)
        self.assertTrue(head.endswith(b"\r\n\r\n"))

    def test_policy(self) -> None:
        """A response has one policy, which may be its own, also after headers were added."""
        response = Response(200, (), 0, policy=b"default-src 'self'").with_headers((b"A", b"b"))

        self.assertEqual(
            1, response.head(b"HTTP/1.1").count(b"Content-Security-Policy: default-src 'self'\r\n")
        )
        self.assertNotIn(b"'none'", response.head(b"HTTP/1.1"))

    def test_injection(self) -> None:
        """A line end within a value does not end the line."""
        answer = Response.whole(200, b"", (b"Content-Type", b"a/b\r\nSet-Cookie: x\0"))

        self.assertIn(b"\r\nContent-Type: a/bSet-Cookie: x\r\n", answer.head(b"HTTP/1.1"))

    def test_error(self) -> None:
        """An error is the specification's document, with its status, Retry-After and Cache-Status."""
        error = UpstreamBusy("the pull limit is reached", detail={"limit": 100}, retry_after_seconds=1.2)
        error.cache_status = "mirrord; fwd=uri-miss; fwd-status=429"

        answer = Response.of_error(error)

        complaint = {"code": "TOOMANYREQUESTS", "message": error.message, "detail": {"limit": 100}}
        self.assertEqual({"errors": [complaint]}, json.loads(answer.body))
        self.assertEqual(429, answer.status)
        self.assertIn((b"Content-Type", b"application/json"), answer.headers)
        self.assertIn((b"Retry-After", b"2"), answer.headers)
        self.assertIn((b"Cache-Status", b"mirrord; fwd=uri-miss; fwd-status=429"), answer.headers)

    def test_finer_status(self) -> None:
        """A more specific HTTP status may replace that of the error code."""
        self.assertEqual(431, Response.of_error(NameUnknown("x"), status=431).status)
