"""AdminRoot: what an operator's tools ask, on a listener of their own."""

from collections.abc import Callable

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.admin.commands import METHODS, Commands
from mirrord.admin.origin import refuse_pages
from mirrord.http.request import READING, MirrorRequest, not_allowed
from mirrord.http.response import Header, Response
from mirrord.observe.health import Health
from mirrord.oci.errors import NameUnknown, RegistryError

_NO_STORE: Header = (b"Cache-Control", b"no-store")
_TEXT: Header = (b"Content-Type", b"text/plain; charset=utf-8")


@attrs.frozen(eq=False)
class AdminRoot:
    """Answers `/metrics`, `/healthz`, `/readyz` and `/status`; its `respond` is what a MirrorSite wants.

    The paths of commands (commands.py) are theirs.

    `_health` says by name what is well and what is not; `_status` gives what is to be known at a glance,
    as JSON takes it. Both are asked anew for every request, on the reactor: they answer from memory.
    """

    _registry: CollectorRegistry
    _health: Health
    _status: Callable[[], object]
    _commands: Commands
    _log = Logger()

    def respond(self, request: MirrorRequest) -> None:
        """Answer a request, at once unless it is a command."""
        if request.uri.partition(b"?")[0] in METHODS:
            self._commands.respond(request)
            return
        try:
            answer = self._answer(request)
        except RegistryError as error:
            answer = Response.of_error(error)
        except Exception:  # noqa: BLE001 - the last resort, and logged
            self._log.failure("A request to the admin listener failed", Failure())
            answer = Response.of_error(RegistryError("the mirror failed; its log says how"))
        request.respond(answer)

    def _answer(self, request: MirrorRequest) -> Response:
        if request.method not in READING:
            return not_allowed()
        match request.uri.partition(b"?")[0]:
            case b"/metrics":
                return self._metrics(request)
            case b"/healthz":
                return Response.whole(200, b"ok\n", _TEXT, _NO_STORE)
            case b"/readyz":
                return self._readiness()
            case b"/status":
                refuse_pages(request)
                return Response.of_json(self._status(), _NO_STORE)
        return Response.of_error(NameUnknown("here are /metrics, /healthz, /readyz and /status"))

    def _metrics(self, request: MirrorRequest) -> Response:
        """All metrics, in the format that the scraper likes best."""
        accept = (request.header(b"Accept") or b"").decode("latin-1")
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # so it fails where a version is no number
            encode, content_type = choose_encoder("")
        return Response.whole(
            200, encode(self._registry), (b"Content-Type", content_type.encode("ascii")), _NO_STORE
        )

    def _readiness(self) -> Response:
        """Every check by name; 503 while one of them says no."""
        results = self._health.run()
        is_ready = all(result.is_ok for result in results)
        checks = {result.name: result.problem or "ok" for result in results}
        return Response.of_json(
            {"ready": is_ready, "checks": checks}, _NO_STORE, status=200 if is_ready else 503
        )
