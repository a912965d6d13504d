"""RegistryResource: one noun of the distribution API, and how it is answered whatever happens."""

from collections.abc import Awaitable, Iterable
from typing import ClassVar, Protocol

import attrs

from mirrord.access.authenticator import Caller
from mirrord.access.rules import Action
from mirrord.http.request import MirrorRequest
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import Unsupported
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.oci.routes import Target


class BodyStream(Protocol):
    """A body that is sent bit by bit."""

    async def send(self, request: MirrorRequest) -> None:
        """Write all of it to `request`, as fast as the client takes it; ended or cancelled, it is let go of.

        Raises:
            Exception: Not all of it could be written.
        """


@attrs.frozen
class RegistryRequest:
    """What a client asks of a resource."""

    request: MirrorRequest
    target: Target
    source: RepositoryKey
    caller: Caller

    @property
    def is_head(self) -> bool:
        """Whether headers alone are asked for."""
        return self.request.is_head

    def header(self, name: bytes) -> str | None:
        """A request header; None without it."""
        value = self.request.header(name)
        return None if value is None else value.decode("latin-1")

    def may_read(self, source: RepositoryKey, name: RepositoryName) -> bool:
        """Whether the client may also read another repository, which it calls `name`."""
        return self.caller.is_allowed(Action.PULL, source, name)


@attrs.frozen
class RepositoryResponse:
    """What a resource says; `length` is that of `flow`, or of what HEAD does not send."""

    outcome: CacheResult
    headers: tuple[Header, ...]
    status: int = 200
    body: bytes = attrs.field(default=b"", repr=False)
    length: int | None = None
    flow: BodyStream | None = None

    @classmethod
    def of_bytes(
        cls, outcome: CacheResult, body: bytes, *headers: Header, status: int = 200
    ) -> "RepositoryResponse":
        """A body that is all here."""
        return cls(outcome, headers, status, body, len(body))


class RegistryResource(Protocol):
    """Answers the requests of one route that name a repository."""

    kind: ClassVar[str]
    """What it is counted as: one of observe.metrics.KINDS."""

    def reply(self, asked: RegistryRequest) -> Awaitable[RepositoryResponse]:
        """What to answer, for GET and HEAD alike.

        Raises:
            RegistryError: It cannot be answered so.
        """
        ...


class ChangingResource(Protocol):
    """Takes the requests of one route that change a hosted repository."""

    methods: ClassVar[tuple[bytes, ...]]
    """Those that it takes."""

    def change(self, asked: RegistryRequest) -> Awaitable[Response]:
        """Do it, and say so. What is done is durable.

        Raises:
            RegistryError: It cannot be done.
        """
        ...


def unsupported(methods: Iterable[bytes]) -> Response:
    """That a path takes these methods, and no other."""
    allow = (b"Allow", b", ".join(methods))
    return Response.of_error(Unsupported("this path does not take that method"), API_VERSION, allow)
