"""RegistryRequest: a request below `/v2/`, once its repository is found and its client is authorized."""

import attrs

from mirrord.access.authenticator import Caller
from mirrord.access.rules import Action
from mirrord.http.body import NoBody
from mirrord.http.request import MirrorRequest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.oci.routes import Target
from mirrord.repository import Repository, RequestBody


@attrs.frozen
class RegistryRequest:
    """A request for a repository, as the handlers of the nouns see it."""

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
        """Whether the client wants headers only."""
        return self.http.is_head

    @property
    def body(self) -> RequestBody:
        """The body; an empty one if the request has none."""
        return self.http.body or NoBody()

    def header(self, name: bytes) -> str | None:
        """Return a request header; None without it."""
        value = self.http.header(name)
        return None if value is None else value.decode("latin-1")

    def may_read(self, key: RepositoryKey, name: RepositoryName) -> bool:
        """Return whether the client may also read another repository, which it calls `name`."""
        return self.caller.is_allowed(Action.PULL, key, name)
