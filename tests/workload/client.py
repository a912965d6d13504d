"""A client that does random things, one after another, and notes them in the history."""

import http.client
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import attrs

from tests.integration.pushing import EMPTY_CONFIG, OCTETS, Pusher, digest_of, image
from tests.workload.checks import Violation, read_fact
from tests.workload.history import Change, Fact, History

BROKEN = (OSError, http.client.HTTPException)
"""The errors of a client whose daemon fails or is killed."""

_TAGS = ("v1", "v2", "v3", "latest")


class Rejected(OSError):
    """The daemon responded with another status than that of success."""


@attrs.define(eq=False, kw_only=True)
class RandomClient:
    """A client with two repositories of its own.

    Its content is one of `variety` blobs and as many images, or one of `shared`,
    which other clients push too, and which may be mirrored.
    """

    name: str
    port: int
    history: History
    seed: int
    shared: Sequence[bytes] = ()
    variety: int = 10_000
    violations: list[Violation] = attrs.field(factory=list, init=False)
    steps: int = attrs.field(default=0, init=False)
    failures: int = attrs.field(default=0, init=False)
    _random: random.Random = attrs.field(init=False)
    _pusher: Pusher = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.name}")
        self._pusher = Pusher(self.port)

    @property
    def repositories(self) -> tuple[str, str]:
        return f"team/{self.name}a", f"team/{self.name}b"

    def run(self, is_over: threading.Event) -> None:
        """Do one thing after another until `is_over` is set; connect anew after an error."""
        while not is_over.is_set():
            try:
                self.step()
            except BROKEN:
                self.failures += 1
                self._pusher.close()
                self._pusher = Pusher(self.port)
                is_over.wait(0.02)
        self._pusher.close()

    def step(self) -> None:
        """Do one thing.

        Raises:
            OSError, http.client.HTTPException: The daemon failed, or rejected it.
        """
        actions = [self.push_image] * 6 + [self.push_chunks, self.mount, self.retag, self.read, self.read]
        actions += [self.delete_tag, self.delete_manifest, self.delete_blob, self.abandon]
        actions += [self.pull] * bool(self.shared)
        self._random.choice(actions)()
        self.steps += 1

    def push_image(self) -> None:
        repository = self._repository()
        dice = random.Random(f"{self.name} image {self._random.randrange(self.variety)}")
        layers = [self._content(dice) for _ in range(dice.randint(1, 3))]
        for content in (EMPTY_CONFIG, *layers):
            with self.history.attempt(_added(repository, "blob", content)):
                self._upload(repository, content)
        self._put(repository, self._random.choice(_TAGS), image(*layers))

    def push_chunks(self) -> None:
        """Push a blob in two chunks."""
        repository, content = self._repository(), self._content(self._random) * 5
        with self.history.attempt(_added(repository, "blob", content)):
            location = self._begin(repository)
            half = len(content) // 2
            self._expect(202, "PATCH", location, content[:half], Content_Range=f"0-{half - 1}")
            self._finish(location, content[half:], digest_of(content))

    def mount(self) -> None:
        """Mount a blob of one repository in the other."""
        source, target = self._random.sample(self.repositories, 2)
        for blob in self._pick(source, "blob"):
            query = f"mount={blob.name}&from={source}"
            with self.history.attempt(Change(Fact(target, "blob", blob.name), blob.name)):
                self._expect(201, "POST", f"/v2/{target}/blobs/uploads/?{query}")

    def retag(self) -> None:
        """Push a manifest again, under a tag."""
        for manifest in self._pick(self._repository(), "manifest"):
            response = self._pusher.request("GET", manifest.path)
            if response.status == 200:
                self._put(manifest.repository, self._random.choice(_TAGS), response.body)

    def read(self) -> None:
        """Read a fact back."""
        facts = [fact for fact in self.history.facts() if fact.repository in self.repositories]
        if facts:
            fact = self._random.choice(facts)
            found, possible = read_fact(self._pusher, fact), self.history.possible(fact)
            if found not in possible and not str(found).startswith("status 5"):
                self.violations.append(Violation(fact, found, possible))

    def pull(self) -> None:
        """Pull content through the mirror."""
        digest = digest_of(self._random.choice(self.shared))
        fact = Fact("library/app", "blob", digest)
        found = read_fact(self._pusher, fact)
        if str(found).startswith("sha256:") and found != digest:
            self.violations.append(Violation(fact, found, frozenset({digest})))

    def delete_tag(self) -> None:
        for tag in self._pick(self._repository(), "tag"):
            with self.history.attempt(Change(tag, None)):
                self._expect(202, "DELETE", tag.path)

    def delete_manifest(self) -> None:
        """Delete a manifest, and with it its tags."""
        for manifest in self._pick(self._repository(), "manifest"):
            tags = (Fact(manifest.repository, "tag", tag) for tag in _TAGS)
            untagged = [Change(tag, None, only_from=manifest.name) for tag in tags]
            with self.history.attempt(Change(manifest, None), *untagged):
                self._expect(202, "DELETE", manifest.path)

    def delete_blob(self) -> None:
        for blob in self._pick(self._repository(), "blob"):
            with self.history.attempt(Change(blob, None)):
                self._expect(202, "DELETE", blob.path)

    def abandon(self) -> None:
        """Begin an upload and leave it."""
        location = self._begin(self._repository())
        self._expect(202, "PATCH", location, self._random.randbytes(10_000), Content_Range="0-9999")

    def _repository(self) -> str:
        return self._random.choice(self.repositories)

    def _content(self, dice: random.Random) -> bytes:
        if self.shared and dice.random() < 0.3:
            return dice.choice(self.shared)
        content = random.Random(f"{self.name} blob {dice.randrange(self.variety)}")
        return content.randbytes(content.randint(1, 60_000))

    def _pick(self, repository: str, kind: str) -> list[Fact]:
        """Return one fact that certainly has a value, if there is one."""
        facts = self.history.certain(repository, kind)
        return [self._random.choice(facts)] if facts else []

    def _put(self, repository: str, tag: str, manifest: bytes) -> None:
        digest = digest_of(manifest)
        tagged = Change(Fact(repository, "tag", tag), digest)
        with self.history.attempt(_added(repository, "manifest", manifest), tagged):
            response = self._pusher.put(repository, tag, manifest)
            if response.status != 201:
                raise Rejected(response)

    def _upload(self, repository: str, content: bytes) -> None:
        self._finish(self._begin(repository), content, digest_of(content))

    def _begin(self, repository: str) -> str:
        response = self._pusher.request("POST", f"/v2/{repository}/blobs/uploads/")
        if response.status != 202:
            raise Rejected(response)
        return response.header("Location")

    def _finish(self, location: str, content: bytes, digest: str) -> None:
        self._expect(201, "PUT", f"{location}?digest={digest}", content, Content_Type=OCTETS)

    def _expect(self, status: int, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        response = self._pusher.request(method, path, body, **headers)
        if response.status != status:
            raise Rejected(response)


def _added(repository: str, kind: str, content: bytes) -> Change:
    digest = digest_of(content)
    return Change(Fact(repository, "blob" if kind == "blob" else "manifest", digest), digest)


@contextmanager
def working(clients: Sequence[RandomClient]) -> Iterator[None]:
    """Let clients work while the block runs; raise if one read what it must not.

    Raises:
        AssertionError: A client read wrong content.
    """
    is_over = threading.Event()
    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(client.run, is_over) for client in clients]
        try:
            yield
        finally:
            is_over.set()
    for each in working:
        each.result()
    violations = [violation for client in clients for violation in client.violations]
    if violations:
        raise AssertionError("\n".join(map(str, violations)))
