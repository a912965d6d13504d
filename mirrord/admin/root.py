"""AdminRoot: the resource tree of the admin listener, for operators and their tools."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from mirrord.admin.commands import Commands
from mirrord.admin.origin import refuse_web_pages
from mirrord.http.request import MirrorRequest
from mirrord.http.resource import JSONResource, UnknownResource
from mirrord.http.response import Header, Response

_NO_STORE: Header = (b"Cache-Control", b"no-store")
_TEXT: Header = (b"Content-Type", b"text/plain; charset=utf-8")

HealthChecks = Mapping[str, Callable[[], str | None]]
"""Conditions for sending clients here, by name; each returns None, or a problem in few words without secrets.

A check looks at what is already known (whether a port is open, whether the last write succeeded); it never
waits.
"""


class AdminRoot(Resource):
    """The root: `metrics`, `healthz`, `readyz`, `status`, and the commands (commands.py).

    `status` returns the document of `/status`. It and the `checks` are called for every request,
    on the reactor: they read from memory only.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        checks: HealthChecks,
        status: Callable[[], object],
        commands: Commands,
    ) -> None:
        super().__init__()
        self.putChild(b"metrics", MetricsResource(registry))
        self.putChild(b"healthz", HealthResource())
        self.putChild(b"readyz", ReadinessResource(checks))
        self.putChild(b"status", StatusResource(status))
        for name, command in commands.resources().items():
            self.putChild(name, command)

    def getChild(self, path: bytes, request: MirrorRequest) -> IResource:
        """Return the resource of a path that does not exist."""
        return UnknownResource("unknown path; see /metrics, /healthz, /readyz and /status")


class _Page(JSONResource, ABC):
    """A resource whose response is made at once."""

    def render_GET(self, request: MirrorRequest) -> int:
        """Respond to a request."""
        request.respond(self.page(request))
        return NOT_DONE_YET

    @abstractmethod
    def page(self, request: MirrorRequest) -> Response:
        """Return the response.

        Raises:
            RegistryError: This client may not see it.
        """


class MetricsResource(_Page):
    """`/metrics`: all metrics, in the format that the scraper prefers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def page(self, request: MirrorRequest) -> Response:
        """Return the metrics."""
        accept = (request.header(b"Accept") or b"").decode("latin-1")
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # raised for a version that is not a number
            encode, content_type = choose_encoder("")
        return Response.whole(
            200, encode(self._registry), (b"Content-Type", content_type.encode("ascii")), _NO_STORE
        )


class HealthResource(_Page):
    """`/healthz`: 200 while the reactor runs."""

    def page(self, request: MirrorRequest) -> Response:
        """Return `ok`."""
        return Response.whole(200, b"ok\n", _TEXT, _NO_STORE)


class ReadinessResource(_Page):
    """`/readyz`: every check by name; 503 if one of them fails."""

    def __init__(self, checks: HealthChecks) -> None:
        super().__init__()
        self._checks = checks

    def page(self, request: MirrorRequest) -> Response:
        """Return the checks."""
        problems = {name: _run(find_problem) for name, find_problem in self._checks.items()}
        is_ready = all(problem is None for problem in problems.values())
        checks = {name: problem or "ok" for name, problem in problems.items()}
        return Response.of_json(
            {"ready": is_ready, "checks": checks}, _NO_STORE, status=200 if is_ready else 503
        )


class StatusResource(_Page):
    """`/status`: the state of the daemon, as JSON."""

    def __init__(self, status: Callable[[], object]) -> None:
        super().__init__()
        self._status = status

    def page(self, request: MirrorRequest) -> Response:
        """Return the status."""
        refuse_web_pages(request)
        return Response.of_json(self._status(), _NO_STORE)


def _run(find_problem: Callable[[], str | None]) -> str | None:
    """Run a check. If it raises an exception, the problem is the type of that."""
    try:
        return find_problem()
    except Exception as error:  # noqa: BLE001 - whatever it is, /readyz must answer
        return type(error).__name__
