"""Random pushes, mounts, deletes, pulls, evictions, sweeps and restarts, against a model in dictionaries."""

from collections.abc import Callable

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.hosted import HostedSweeper, HostedSweepResult
from mirrord.gc.plan import GCLimits
from mirrord.gc.retention import RetentionRules
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor, Manifest
from mirrord.oci.names import RepositoryName, Tag
from tests.unit.store.cases import APP, UBUNTU, WEB, PushTestCase, layer, manifest

GRACE = 100.0

repositories = st.sampled_from([APP, WEB])
tags = st.sampled_from([Tag("v1"), Tag("v2")])
blobs = st.integers(0, 4)


def body(number: int) -> bytes:
    return b"blob %d" % number


def image(layers: frozenset[int]) -> Manifest:
    return manifest(*(layer(body(number)) for number in sorted(layers)))


@attrs.define
class Model:
    """The expected state: links with the time that protects them, and the references of manifests."""

    blobs: dict[tuple[RepositoryName, Digest], float] = attrs.field(factory=dict)
    manifests: dict[tuple[RepositoryName, Digest], Manifest] = attrs.field(factory=dict)
    tags: dict[tuple[RepositoryName, Tag], Digest] = attrs.field(factory=dict)
    mirrored: set[Digest] = attrs.field(factory=set)

    def named_in(self, repository: RepositoryName) -> set[Digest]:
        return {
            named.digest
            for (of, _), one in self.manifests.items()
            if of == repository
            for named in one.references()
        }

    def hosted(self) -> set[Digest]:
        return {digest for _, digest in (*self.blobs, *self.manifests)}


class Machine(RuleBasedStateMachine):
    """Apply the same operations to a store and to the model."""

    case: Callable[[], PushTestCase]

    def __init__(self) -> None:
        super().__init__()
        self.driver = self.case()
        self.model = Model()

    @property
    def now(self) -> float:
        return self.driver.store.database.now()

    @rule(repository=repositories, number=blobs)
    def push_blob(self, repository: RepositoryName, number: int) -> None:
        digest = self.driver.push_blob(body(number), repository)
        self.model.blobs[repository, digest] = self.now

    @rule(repository=repositories, number=blobs)
    def mount(self, repository: RepositoryName, number: int) -> None:
        digest = Digest.of(body(number))
        is_there = digest in self.files()
        descriptor = Descriptor(OCTET_STREAM, digest, len(body(number)))
        assert self.driver.result(self.driver.store.hosted.add_blob(repository, descriptor)) == is_there
        if is_there:
            self.model.blobs[repository, digest] = self.now

    @rule(repository=repositories, layers=st.frozensets(blobs, max_size=3), tag=st.one_of(st.none(), tags))
    def push_image(self, repository: RepositoryName, layers: frozenset[int], tag: Tag | None) -> None:
        """Push as a client does: check for each blob, and push what is missing."""
        for number in layers:
            digest = Digest.of(body(number))
            if self.driver.store.hosted.link(repository, digest) is None:
                assert (repository, digest) not in self.model.blobs
                self.push_blob(repository, number)
            self.model.blobs[repository, digest] = self.now
        pushed = image(layers)
        self.driver.push_manifest(pushed, *filter(None, [tag]), repository=repository)
        self.model.manifests[repository, pushed.digest] = pushed
        if tag is not None:
            self.model.tags[repository, tag] = pushed.digest

    @rule(repository=repositories, tag=tags)
    def delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        was_there = self.model.tags.pop((repository, tag), None) is not None
        assert self.driver.result(self.driver.store.hosted.delete_tag(repository, tag)) == was_there

    @precondition(lambda self: self.model.manifests)
    @rule(data=st.data())
    def delete_manifest(self, data: st.DataObject) -> None:
        repository, digest = data.draw(st.sampled_from(sorted(self.model.manifests)))
        assert self.driver.result(self.driver.store.hosted.delete(repository, digest))
        del self.model.manifests[repository, digest]
        kept = {key: of for key, of in self.model.tags.items() if (key[0], of) != (repository, digest)}
        self.model.tags = kept

    @rule(repository=repositories, number=blobs)
    def delete_blob(self, repository: RepositoryName, number: int) -> None:
        digest = Digest.of(body(number))
        was_there = self.model.blobs.pop((repository, digest), None) is not None
        assert self.driver.result(self.driver.store.hosted.delete(repository, digest)) == was_there

    @rule(number=blobs)
    def pull(self, number: int) -> None:
        """Pull a mirrored image with the same blob."""
        digest = Digest.of(body(number))
        if self.driver.store.blobs.size_of(digest) is None:
            self.driver.add_blob(body(number))
        self.driver.store.index.add_links(UBUNTU, [layer(body(number))])
        self.model.mirrored.add(digest)

    @rule()
    def evict(self) -> None:
        self.driver.evict_all()

    @rule(seconds=st.sampled_from([1.0, GRACE / 2, GRACE]))
    def pass_time(self, seconds: float) -> None:
        self.driver.pass_time(seconds)

    @rule(is_killed=st.booleans())
    def restart(self, is_killed: bool) -> None:
        """All blobs count as requested at a start. A pull waits for no commit, so wait for it here."""
        self.driver.result(self.driver.store.eviction.flush())
        self.driver.kill() if is_killed else self.driver.reopen()
        self.model.blobs = dict.fromkeys(self.model.blobs, self.now)

    @rule()
    def sweep(self) -> None:
        """Sweep; then no blob without a manifest outlives its grace time, and no content its last link."""
        self.driver.result(self.driver.store.eviction.flush())
        sweeper = HostedSweeper(self.driver.store.hosted_gc, self.driver.clock)
        sweeping: Deferred[HostedSweepResult] = Deferred.fromCoroutine(
            sweeper.sweep(
                GCLimits(
                    max_size=None,
                    min_free=0,
                    unused_for_seconds=1e9,
                    partials_seconds=1e9,
                    retention=RetentionRules(GRACE),
                )
            )
        )
        self.driver.clock.pump([0.0] * 60)
        self.driver.successResultOf(sweeping)
        for (repository, digest), since in list(self.model.blobs.items()):
            if self.now - since >= GRACE and digest not in self.model.named_in(repository):
                del self.model.blobs[repository, digest]
        assert self.files() - self.model.mirrored <= self.model.hosted()

    @invariant()
    def holds_what_it_should(self) -> None:
        """Check that links and tags are those of the model, and that their content is there, unchanged."""
        sql = "SELECT repository, digest, is_manifest FROM hosted_links"
        rows = self.driver.store.database.select(sql, ())
        links = {(repository, digest) for repository, digest, _ in rows}
        expected = {(str(of), str(digest)) for of, digest in (*self.model.blobs, *self.model.manifests)}
        assert links == expected, (links, expected)
        named = {
            (repository, Tag(tag)): descriptor.digest
            for repository in (APP, WEB)
            for tag in self.driver.tags(repository)
            if (descriptor := self.driver.store.hosted.tag(repository, Tag(tag)))
        }
        assert named == self.model.tags
        for _, digest in self.model.blobs:
            content = self.driver.read_blob(digest)
            assert content is not None
            assert digest.matches(content)
        for (_, digest), pushed in self.model.manifests.items():
            assert self.driver.read_manifest(digest) == pushed.body

    def files(self) -> set[Digest]:
        layout = self.driver.layout
        return {
            Digest("sha256", path.name)
            for folder in (*layout.mirrored.fan_outs(), *layout.hosted.fan_outs())
            for path in folder.path.glob("*")
        }

    def teardown(self) -> None:
        self.driver.doCleanups()


class ModelTests(SynchronousTestCase):
    def test_nothing_reachable_is_lost_and_nothing_else_kept(self) -> None:
        """In any order of operations, acknowledged content stays, and unneeded content is collected."""

        def case() -> PushTestCase:
            driver = PushTestCase()
            driver._testMethodName = self._testMethodName
            driver.setUp()
            return driver

        run_state_machine_as_test(
            type("HostedMachine", (Machine,), {"case": staticmethod(case)}),
            settings=settings(max_examples=40, stateful_step_count=30, deadline=None),
        )
