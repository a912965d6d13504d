"""The parts of access control in memory: users in a file, threads that run on demand, and a clock."""

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

from mirrord.access.rules import ClientIdentity
from mirrord.access.users import Users
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName

P = ParamSpec("P")
T = TypeVar("T")

ORIGIN = "http://mirror.lan:5000"
ADDRESS = "192.0.2.7"


def hashed(password: str) -> str:
    """Return a hash of the lowest possible cost."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


ANN, BOB = f"ann:{hashed('apple')}\n", f"bob:{hashed('berry')}\n"


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def hosted(name: str) -> RepositoryKey:
    return RepositoryKey(HOSTED, RepositoryName(name))


def hub(name: str) -> RepositoryKey:
    return RepositoryKey("docker.io", RepositoryName(name))


def identity(authorization: str | None = None, address: str = ADDRESS, *certificates: str) -> ClientIdentity:
    return ClientIdentity(
        origin=ORIGIN, address=address, certificates=frozenset(certificates), authorization=authorization
    )


class FakeThreads:
    """Threads that start a call when `work` is called, or at once if `is_eager`."""

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


def resolve_scope(repository: RepositoryName) -> Iterable[RepositoryKey]:
    """Repositories below `team/` and `private/` are hosted, all others are Docker Hub's."""
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
        return Users.load(
            self.file,
            run_in_thread=self.threads.run,
            clock=self.clock.seconds,
            sleep=partial(deferLater, self.clock),
        )

    def result(self, awaited: Awaitable[T]) -> T:
        """Return its result, which is there already."""

        async def wait() -> T:
            return await awaited

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def failure(self, awaited: Awaitable[Any], *kinds: type[Exception]) -> Any:
        """Return its exception, which is there already."""

        async def wait() -> Any:
            return await awaited

        return self.failureResultOf(Deferred.fromCoroutine(wait()), *kinds).value
