"""What access needs of others; `assembly.py` hands in the real ones."""

from collections.abc import Callable, Iterable
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred

from mirrord.oci.names import RepositoryKey, RepositoryName

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Protocol):
    """Where blocking calls are made: two threads, for a password keeps one of them busy for long."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `function` elsewhere; fires on the reactor with what it returned or raised."""
        ...


class Names(Protocol):
    """What clients call repositories."""

    def resolve_scope(self, repository: RepositoryName) -> Iterable[RepositoryKey]:
        """Every source that a client may call so, for a token's scope has neither `ns` nor a prefix."""
        ...
