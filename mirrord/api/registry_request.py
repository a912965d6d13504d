"""RegistryRequest: a request below `/v2/` whose repository was found and whose client was authenticated."""

import attrs

from mirrord.access.authenticator import Caller
from mirrord.access.rules import Action
from mirrord.config.addresses import client_network
from mirrord.http.body import NoBody
from mirrord.http.request import MirrorRequest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.oci.routes import Target
from mirrord.repository import Repository, RequestBody


@attrs.frozen(kw_only=True)
class RegistryRequest:
    """A request to a repository; `http` is its HTTP request, whose head is complete."""

    http: MirrorRequest
    target: Target
    repository: Repository
    caller: Caller

    @property
    def method(self) -> bytes:
        """The HTTP method."""
        method: bytes = self.http.method
        return method

    @property
    def is_head(self) -> bool:
        """Whether the client wants the headers only."""
        return self.http.is_head

    @property
    def body(self) -> RequestBody:
        """The body; an empty one if the request has none."""
        return self.http.body or NoBody()

    @property
    def client(self) -> str:
        """The name by which what a client uses is counted: its user, or else its network."""
        user = self.caller.user
        return f"network {client_network(self.http.client_address)}" if user is None else f"user {user}"

    def header(self, name: bytes) -> str | None:
        """Return a request header; None if it is missing."""
        value = self.http.header(name)
        return None if value is None else value.decode("latin-1")

    def may_read(self, key: RepositoryKey, name: RepositoryName) -> bool:
        """Return whether the client may also read another repository, which it calls `name`."""
        return self.caller.is_allowed(Action.PULL, key, name)
