"""The daemon, as its operator reaches it: HTTP at its admin listener (docs/operations.md).

These commands do one thing after another, so this is `http.client` and no reactor.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeAlias
from urllib.parse import urlencode

import attrs

from mirrord.cli.addresses import Address
from mirrord.cli.exit_status import CommandError, DaemonUnreachable, NotFound

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
SILENCE_SECONDS = 600.0
"""How long a stream may be silent: one big file on a slow disk is hashed without a word."""

_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_MAX_LINE_BYTES = 1024 * 1024

_OUR_INTENT = {"Mirrord-Command": "1"}
"""What a page in the operator's browser cannot send: nothing changes without it."""

Document: TypeAlias = dict[str, Any]


@attrs.frozen
class AdminClient:
    """HTTP client of the admin listener; every method raises `CommandError` where a request fails."""

    address: Address

    def is_running(self) -> bool:
        """Whether anybody listens there."""
        connection = self.address.connection(CONNECT_SECONDS)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def get(self, path: str, **query: str) -> Document:
        """The document at `path`."""
        return self._whole("GET", path, query)

    def post(self, path: str, **query: str) -> Document:
        """Have something done; the document that says what was."""
        return self._whole("POST", path, query)

    def delete(self, path: str, **query: str) -> Document:
        """Have something forgotten; the document that says what was."""
        return self._whole("DELETE", path, query)

    def readiness(self) -> dict[str, str]:
        """Each check by name: `ok`, or what is wrong."""
        with self._answer("GET", "/readyz", {}, ANSWER_SECONDS, refusals=(503,)) as answer:
            checks = _document(_read(answer), self.address).get("checks", {})
        return {str(name): str(finding) for name, finding in checks.items()}

    def stream(self, method: str, path: str, **query: str) -> Iterator[Document]:
        """The documents of an answer, a line each, as they come."""
        with self._answer(method, path, query, SILENCE_SECONDS) as answer:
            while line := answer.readline(_MAX_LINE_BYTES):
                yield _document(line, self.address)

    def events(self, path: str, **query: str) -> Iterator[Document]:
        """What happens while something is done, up to the event that ends it: `done` or `failed`."""
        for event in self.stream("POST", path, **query):
            yield event
            if event.get("event") in {"done", "failed"}:
                return
        raise DaemonUnreachable(f"the daemon at {self.address} went away before it was done")

    def _whole(self, method: str, path: str, query: dict[str, str]) -> Document:
        with self._answer(method, path, query, ANSWER_SECONDS) as answer:
            return _document(_read(answer), self.address)

    @contextmanager
    def _answer(
        self, method: str, path: str, query: dict[str, str], seconds: float, refusals: tuple[int, ...] = ()
    ) -> Iterator[HTTPResponse]:
        """An answer that is no refusal, but for these; no wait in it is longer than `seconds`."""
        connection = self.address.connection(CONNECT_SECONDS)
        try:
            connection.connect()
        except OSError as error:
            reason = error.strerror or str(error)
            raise DaemonUnreachable(f"no daemon answers at {self.address}: {reason}") from None
        try:
            connection.sock.settimeout(seconds)
            headers = {} if method == "GET" else _OUR_INTENT
            # An argument may be bytes that are no text; the daemon says what it makes of them.
            asked = f"{path}?{urlencode(query, errors='surrogateescape')}" if query else path
            connection.request(method, asked, headers=headers)
            answer = connection.getresponse()
            if answer.status >= 400 and answer.status not in refusals:
                raise _refusal(answer, self.address)
            yield answer
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise DaemonUnreachable(f"the daemon at {self.address} went away: {reason}") from None
        finally:
            connection.close()


def _read(answer: HTTPResponse) -> bytes:
    return answer.read(_MAX_ANSWER_BYTES)


def _document(body: bytes, address: Address) -> Document:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CommandError(f"what answers at {address} is no mirrord, or another version of it")
    return document


def _refusal(answer: HTTPResponse, address: Address) -> CommandError:
    """What the daemon says against it (distribution-spec, "Error codes")."""
    errors = _document(_read(answer), address).get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = str(first.get("message") or f"the daemon answered {answer.status}")
    detail = first.get("detail")
    line = f"{message}: {detail}" if isinstance(detail, str) and detail else message
    return NotFound(line) if answer.status == 404 else CommandError(line)
