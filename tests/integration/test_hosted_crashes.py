"""Clients push while the daemon is killed and started again: all that it acknowledged is stored."""

import http.client
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import attrs

from tests.integration.pushing import EMPTY_CONFIG, HostedCase, Pusher, digest_of, image

CLIENTS = 8

PUSHES = int(os.environ.get("MIRRORD_PUSHES", "80"))
"""The images that all clients push together."""

_BROKEN = (OSError, http.client.HTTPException, AssertionError)
"""The errors of a client whose daemon is killed, or rejects a push."""


@attrs.define
class Acknowledged:
    """Acknowledged content by digest, and the digests each tag may name; `tried` has all attempts."""

    blobs: dict[str, bytes] = attrs.field(factory=dict)
    manifests: dict[str, bytes] = attrs.field(factory=dict)
    tags: dict[str, set[str]] = attrs.field(factory=dict)
    tried: dict[str, bytes] = attrs.field(factory=dict)


class HostedCrashTests(HostedCase):
    def test_killed_again_and_again(self) -> None:
        """Killed at random moments during pushes, the daemon serves all acknowledged content unchanged."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self.push_all, number) for number in range(CLIENTS)]
            order = random.Random(4)
            while not all(each.done() for each in clients):
                time.sleep(order.uniform(0.1, 0.6))
                self.daemon.kill()
                self.daemon.start()
            for each in clients:
                self.check(each.result())

    def push_all(self, client: int) -> Acknowledged:
        """Push images, each until it is acknowledged."""
        acknowledged, pusher = Acknowledged(), Pusher(self.daemon.port)
        for number in range(client, PUSHES, CLIENTS):
            layer = random.Random(number).randbytes(50_000 + number)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    self.push(pusher, acknowledged, f"c{client}", layer)
                    break
                except _BROKEN:
                    pusher.close()
                    time.sleep(0.05)
                    pusher = Pusher(self.daemon.port)
            else:
                raise TimeoutError("a push failed for a minute")
        pusher.close()
        return acknowledged

    def push(self, pusher: Pusher, acknowledged: Acknowledged, tag: str, layer: bytes) -> None:
        manifest = image(layer)
        for content in (EMPTY_CONFIG, layer):
            acknowledged.tried[digest_of(content)] = content
            acknowledged.blobs[pusher.push_blob(self.repository, content)] = content
        digest = digest_of(manifest)
        acknowledged.tags[tag] = acknowledged.tags.get(tag, set()) | {digest}
        response = pusher.put(self.repository, tag, manifest)
        assert response.status == 201, response
        acknowledged.manifests[digest] = manifest
        acknowledged.tags[tag] = {digest}

    def check(self, acknowledged: Acknowledged) -> None:
        for digest, content in acknowledged.tried.items():
            response = self.pusher.request("GET", self.path("blobs", digest))
            is_needed = digest in acknowledged.blobs
            self.assertIn(response.status, {200} if is_needed else {200, 404})
            self.assertTrue(response.status == 404 or response.body == content, digest)
        for digest, manifest in acknowledged.manifests.items():
            self.assert_manifest(digest, manifest)
        for tag, digests in acknowledged.tags.items():
            response = self.pusher.request("GET", self.path("manifests", tag))
            self.assertIn(digest_of(response.body), digests)
