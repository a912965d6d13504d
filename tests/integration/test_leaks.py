"""The leak matrix: what is stored for others is not readable through a repository that only references it.

An attacker pushes manifests to `evil/public` that reference digests of private images, in every way in which
a manifest can. The images were pulled through another mirrored repository, were pushed to a hosted one, or
are not stored. Then their blobs, manifests and tags are requested through `evil/public`, in every state of
its upstream.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import attrs

from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.fakes.faults import Kind, Status
from tests.fakes.state import RegistryBehavior
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon
from tests.integration.pushing import PUSHABLE, Pusher, descriptor, digest_of, image, index

EVIL, SECRET, HOSTED = "evil/public", "library/secret", "team/secret"
HOLDERS = ("another mirrored repository", "a hosted repository", "none")
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
REFERENCES: dict[str, Callable[[bytes, str], bytes]] = {
    "layer": lambda secret, note: image(secret, config=note.encode()),
    "foreign layer": lambda secret, note: image(
        config=note.encode(), layers=[descriptor(secret, FOREIGN, urls=["https://example.com/layer"])]
    ),
    "config": lambda secret, note: image(config=secret, annotations={"note": note}),
    "subject": lambda secret, note: image(config=note.encode(), subject=descriptor(secret, OCI_MANIFEST)),
    "index child": lambda secret, note: index(secret, annotations={"note": note}),
    "referrer": lambda secret, note: image(config=note.encode()),
}
"""How a manifest (or, for the last, a list of referrers) may reference a secret; `note` makes it unique."""


@attrs.frozen
class Secret:
    """A private image of one layer; `crafted` are the tags in EVIL of manifests that reference it."""

    case: str
    holder: str
    layer: bytes
    manifest: bytes
    crafted: tuple[str, ...]

    @classmethod
    def of(cls, number: int, holder: str, reference: str) -> "Secret":
        """Return an image that nothing else has."""
        layer = f"secret {number}".encode()
        return cls(
            case=f"{reference}, stored for {holder}",
            holder=holder,
            layer=layer,
            manifest=image(layer, config=f"config {number}".encode()),
            crafted=(f"blob-{number}", f"manifest-{number}"),
        )

    @property
    def tag(self) -> str:
        """The tag of the image, in EVIL as in its own repository."""
        return f"tag-{digest_of(self.manifest)[-8:]}"

    def targets(self) -> Iterator[tuple[str, str, bytes]]:
        """Iterate over its layer, manifest and tag: the kind, the path in a repository, and the content."""
        layer, manifest = digest_of(self.layer), digest_of(self.manifest)
        yield "blob", f"blobs/{layer}", self.layer
        yield "manifest", f"manifests/{manifest}", self.manifest
        yield "tag", f"manifests/{self.tag}", self.manifest
        yield "blob as a manifest", f"manifests/{layer}", self.layer
        yield "manifest as a blob", f"blobs/{manifest}", self.manifest


class LeakMatrixTests(MirrorCase):
    """Leaks, by the state of the upstream of the crafted manifests."""

    behavior = RegistryBehavior(has_referrers=True)

    def setUp(self) -> None:
        super().setUp()
        more = PUSHABLE + 'repositories = ["team/*"]\n'
        self.daemon = self.start_daemon(more=more)
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)
        cases = enumerate(product(HOLDERS, REFERENCES))
        self.secrets = [Secret.of(number, holder, reference) for number, (holder, reference) in cases]
        for secret in self.secrets:
            self._store(secret)
            self._craft(secret)
        self.wait_until_settled(self.daemon)

    def test_not_found(self) -> None:
        """While the upstream responds that it has neither, every request is a 404."""
        self.assertEqual({404}, self.statuses())

    def test_down(self) -> None:
        """While the upstream is down, every request is an upstream error."""
        self.registry.down()
        self.assertLessEqual(self.statuses(), {502, 503, 504})
        self.registry.up()

    def test_circuit_open(self) -> None:
        """While the circuit is open, every request is rejected, and none is sent."""
        self.registry.play(Status(429, retry_after=600, method="HEAD", on=Kind.MANIFEST))
        pull(self.daemon.manifest("limited", EVIL))
        self.registry.forget()
        self.assertLessEqual(self.statuses(), {429, 503})
        self.assertEqual((), self.registry.journal.requests())

    def test_after_a_restart(self) -> None:
        """After a restart no reference has become a link."""
        self.daemon.stop()
        self.daemon.start()
        self.registry.down()
        self.assertLessEqual(self.statuses(), {502, 503, 504})
        self.registry.up()

    def test_found(self) -> None:
        """Where the upstream has them in this repository too, all are readable by the same requests."""
        for secret in self.secrets:
            self._publish(secret, EVIL)
        found = {"blob", "manifest", "tag"}
        for secret in self.secrets:
            for kind, path, content in secret.targets():
                pulled = pull(f"{self.daemon.url}/v2/{EVIL}/{path}")
                expected = (200, content) if kind in found else (404, b"")
                body = pulled.body if pulled.status == 200 else b""
                self.assertEqual(expected, (pulled.status, body), f"{secret.case}: {kind}")

    def statuses(self) -> set[int]:
        """Request all secrets through EVIL, and return the statuses of the responses; none may be a leak."""
        cases = [
            (f"{method} of a {kind}: {secret.case}", method, f"{self.daemon.url}/v2/{EVIL}/{path}", content)
            for secret in self.secrets
            for kind, path, content in secret.targets()
            for method in ("GET", "HEAD")
        ]
        with ThreadPoolExecutor(32) as pool:
            responses = list(pool.map(lambda case: pull(case[2], method=case[1]), cases))
        leaks = [
            (case, pulled.status)
            for (case, _, _, content), pulled in zip(cases, responses, strict=True)
            if pulled.status < 400 or content in pulled.body
        ]
        self.assertEqual([], leaks)
        return {pulled.status for pulled in responses}

    def _store(self, secret: Secret) -> None:
        """Let the holder of a secret store it."""
        if secret.holder == HOLDERS[0]:
            self._publish(secret, SECRET)
            for _, path, content in list(secret.targets())[:3]:
                self.assertEqual(content, pull(f"{self.daemon.url}/v2/{SECRET}/{path}").body)
        elif secret.holder == HOLDERS[1]:
            for content in (secret.layer, self._config(secret)):
                self.pusher.push_blob(HOSTED, content)
            self.assertEqual(201, self.pusher.put(HOSTED, secret.tag, secret.manifest).status)

    def _publish(self, secret: Secret, repository: str) -> None:
        """Push a secret to a repository of the upstream."""
        self.registry.put_content(secret.layer, repository)
        self.registry.put_manifest(secret.manifest, repository, secret.tag)

    def _craft(self, secret: Secret) -> None:
        """Push manifests to EVIL that reference the layer and the manifest of a secret, and pull them."""
        reference = secret.case.partition(",")[0]
        for tag, target in zip(secret.crafted, (secret.layer, secret.manifest), strict=True):
            crafted = REFERENCES[reference](target, tag)
            media_type = json.loads(crafted)["mediaType"]
            self.registry.put_manifest(crafted, EVIL, tag, media_type)
            if reference == "referrer":
                self.registry.list_referrer(descriptor(target, OCI_MANIFEST), EVIL)
            self._pull_crafted(self.daemon, tag, crafted)

    def _pull_crafted(self, daemon: Daemon, tag: str, crafted: bytes) -> None:
        self.assertEqual(crafted, pull(daemon.manifest(tag, EVIL), {"Accept": OCI_INDEX}).body)
        listed = pull(f"{daemon.url}/v2/{EVIL}/referrers/{digest_of(crafted)}")
        self.assertEqual(200, listed.status)

    def _config(self, secret: Secret) -> bytes:
        return secret.layer.replace(b"secret", b"config")
