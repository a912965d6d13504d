"""The base class of the tests of the upstream client: one client, one script, one clock."""

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor
from mirrord.oci.names import RepositoryName, Tag
from tests.unit.upstream.scripted import (
    Reply,
    Script,
    ScriptedAgent,
    client,
)

T = TypeVar("T")

APP = RepositoryName("library/app")
LATEST = Tag("latest")
BODY = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode()
DIGEST = Digest.of(BODY)
MANIFEST = Reply(200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": str(DIGEST)}, BODY)
HEAD = Reply(200, {**MANIFEST.headers, "Content-Length": str(len(BODY))})
CDN = "https://cdn.example/blob?sig=a%2Fb=="
BASIC = "Basic bWU6czNjcmV0"


class ClientTestCase(SynchronousTestCase):
    """One client over a scripted network."""

    def use(self, *script: Script, **options: Any) -> None:
        self.clock = Clock()
        self.agent = ScriptedAgent(script)
        self.client = client(self.agent, self.clock, **options)
        self.addCleanup(self.check_connections, self.agent)

    def check_connections(self, agent: ScriptedAgent) -> None:
        """Check that every body was read, discarded or aborted."""
        self.assertEqual([], agent.leaked)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> "Deferred[T]":
        return Deferred.fromCoroutine(coroutine)

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result: T = self.successResultOf(self.begin(coroutine))
        return result

    def failure(self, coroutine: Coroutine[Any, Any, T], kind: type[Exception]) -> Any:
        return self.failureResultOf(self.begin(coroutine), kind).value

    def resolve(
        self, budget_seconds: float = 20, attempts: int = 1
    ) -> Coroutine[Any, Any, Descriptor | None]:
        return self.client.resolve(APP, LATEST, budget_seconds=budget_seconds, attempts=attempts)

    def fetch(self, reference: Tag | Digest = LATEST, attempts: int = 1) -> Coroutine[Any, Any, Any]:
        return self.client.fetch_manifest(APP, reference, budget_seconds=20, attempts=attempts)

    def blob(self, **options: Any) -> Coroutine[Any, Any, Any]:
        return self.client.fetch_blob(APP, DIGEST, budget_seconds=20, **options)

    @property
    def authorizations(self) -> list[str | None]:
        return [request.authorization for request in self.agent.requests]
