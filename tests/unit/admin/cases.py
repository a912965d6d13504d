"""The base class of the tests of the operator's use cases."""

import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName
from mirrord.routing import UpstreamRoute
from tests.fakes.repositories import Repositories

T = TypeVar("T")

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
DEBIAN = RepositoryKey("docker.io", RepositoryName("library/debian"))
QUAY = RepositoryKey("quay.io", RepositoryName("a/b"))
APP, WEB = RepositoryName("team/app"), RepositoryName("team/web")
HOSTED_APP = RepositoryKey(HOSTED, APP)

EMPTY = b"{}"
"""The config of every image."""


class OperatorCase(SynchronousTestCase):
    """Repositories over a real store, and a clock that advances while a coroutine runs.

    docker.io allows all but `private/*`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.repositories = Repositories.of(self, self.clock)
        self.store = self.repositories.store
        self.hub = self.repositories.hub
        self.router = self.repositories.router(
            UpstreamRoute("docker.io", "hub", deny=("private/*",)), UpstreamRoute("quay.io", "quay")
        )

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        running = Deferred.fromCoroutine(coroutine)
        self.clock.pump([0.0] * 200)
        return running

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(self.begin(coroutine))

    def failure(self, coroutine: Coroutine[Any, Any, Any], error: type[Exception]) -> Exception:
        value = self.failureResultOf(self.begin(coroutine), error).value
        assert isinstance(value, Exception)
        return value

    def listen(self, events: AsyncGenerator[T, None]) -> tuple[list[T], Deferred[None]]:
        """Return a list that receives the events, and a Deferred that fires after the last one."""
        received: list[T] = []

        async def receive() -> None:
            async for event in events:
                received.append(event)  # noqa: PERF401 - a test looks at it in between

        return received, self.begin(receive())

    def all_of(self, events: AsyncGenerator[T, None]) -> list[T]:
        """Return all events."""
        received, ended = self.listen(events)
        self.successResultOf(ended)
        return received


def layer(body: bytes, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip") -> Descriptor:
    """Return the descriptor of a layer."""
    return Descriptor(media_type, Digest.of(body), len(body))


def image(*layers: Descriptor, note: str = "", subject: Manifest | None = None) -> Manifest:
    """Return the manifest of an image with an empty config."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _entry(Descriptor("application/vnd.oci.empty.v1+json", Digest.of(EMPTY), len(EMPTY))),
        "layers": [_entry(one) for one in layers],
        "note": note,
    }
    if subject is not None:
        document["subject"] = _entry(subject.descriptor)
    return Manifest.parse(json.dumps(document).encode(), OCI_MANIFEST)


def index(**images: Manifest) -> Manifest:
    """Return an index of images by architecture."""
    manifests = [
        {**_entry(one.descriptor), "platform": {"os": "linux", "architecture": architecture}}
        for architecture, one in images.items()
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return Manifest.parse(json.dumps(document).encode(), OCI_INDEX)


def _entry(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
