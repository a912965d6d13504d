"""A registry's door in memory: users in a file, threads that work when told, and a clock."""

import base64
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

import bcrypt
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.authenticator import Asking
from mirrord.access.users import Users
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName

P = ParamSpec("P")
T = TypeVar("T")

ORIGIN = "http://mirror.lan:5000"
ADDRESS = "192.0.2.7"


def hashed(password: str) -> str:
    """A hash of the lowest cost that there is."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


ANN, BOB = f"ann:{hashed('apple')}\n", f"bob:{hashed('berry')}\n"


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def hosted(name: str) -> RepositoryKey:
    return RepositoryKey(HOSTED, RepositoryName(name))


def hub(name: str) -> RepositoryKey:
    return RepositoryKey("docker.io", RepositoryName(name))


def asking(authorization: str | None = None, address: str = ADDRESS, *certificates: str) -> Asking:
    return Asking(ORIGIN, address, frozenset(certificates), authorization)


class FakeThreads:
    """Threads that begin when `work` is called; `is_eager`: at once."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.calls = 0
        self.is_eager = True

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        self.calls += 1
        done: Deferred[T] = Deferred()
        self.waiting.append(lambda: done.callback(function(*args, **kwargs)))
        if self.is_eager:
            self.work()
        return done

    def work(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()


class FakeNames:
    """Hosted below `team/` and `private/`; Docker Hub's otherwise."""

    def resolve_scope(self, repository: RepositoryName) -> Iterable[RepositoryKey]:
        is_hosted = repository.name.startswith(("team/", "private/"))
        return (hosted(repository.name),) if is_hosted else (hub(repository.name),)


class AccessCase(SynchronousTestCase):
    """Ann's password is apple, Bob's is berry."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.threads = FakeThreads()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "htpasswd"
        self.file.write_text(ANN + BOB)

    def load(self) -> Users:
        return Users.load(self.file, self.threads, self.clock.seconds, partial(deferLater, self.clock))

    def result(self, awaited: Awaitable[T]) -> T:
        """What it comes to, now."""

        async def wait() -> T:
            return await awaited

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def failure(self, awaited: Awaitable[Any], *kinds: type[Exception]) -> Any:
        """How it fails, now."""

        async def wait() -> Any:
            return await awaited

        return self.failureResultOf(Deferred.fromCoroutine(wait()), *kinds).value
