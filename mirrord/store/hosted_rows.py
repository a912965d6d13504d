"""The rows of hosted repositories, and the body of each transaction that changes them.

The functions that accept a transaction run in the writer's thread, each as part of one transaction of SQLite
(database.py): what they check cannot change before they are done. They decide what is to change; the change
itself is a fact (hosted_facts.py), and only `apply` turns facts into rows. So a transaction that is replayed
from the journal has the effect that it had.

Times are service time, except `linked_at` and `tagged_at`, which are shown. `touched` of a link is when it
was created, or when its manifest last gained or lost a tag: its age is counted from then.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import attrs

from mirrord.oci.content import HostedLink, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestBlobUnknown
from mirrord.oci.manifests import OCTET_STREAM, Descriptor, Manifest, read_document
from mirrord.oci.names import Tag
from mirrord.oci.referrer import NO_REFERRER, Referrer
from mirrord.store.hosted_facts import (
    BlobLinked,
    Dropped,
    Fact,
    ManifestLinked,
    Tagged,
    Unlinked,
    Untagged,
)

COLUMNS = {
    "hosted_links": "repository, digest, is_manifest, media_type, size, linked_at, touched, subject, "
    "artifact_type, annotations",
    "hosted_tags": "repository, tag, digest, tagged_at, touched",
    "hosted_edges": "repository, child, parent",
}
"""The tables and their columns, in order."""

CHECKS = tuple(f"SELECT {columns} FROM {table} LIMIT 0" for table, columns in COLUMNS.items())  # noqa: S608
"""SQL that reads no row, but fails if a table or one of its columns is missing."""

_TOUCH_TAGGED = (
    "UPDATE hosted_links SET touched = ? WHERE repository = ? AND is_manifest = 1 "
    "AND digest IN (SELECT digest FROM hosted_tags WHERE repository = ? AND tag = ?)"
)
_IS_NO_MANIFEST = (
    "NOT EXISTS (SELECT 1 FROM hosted_links AS link WHERE link.repository = ?1 AND link.digest = ?2 "
    "AND link.is_manifest = 1)"
)
IS_REFERENCED = (
    "EXISTS (SELECT 1 FROM hosted_edges AS edge WHERE edge.repository = {0}.repository "
    "AND edge.child = {0}.digest)"
)

_CHANGED_SINCE = """
SELECT EXISTS (SELECT 1 FROM hosted_tags WHERE repository = ?1 AND digest = ?2)
    OR NOT EXISTS (SELECT 1 FROM hosted_links
        WHERE repository = ?1 AND digest = ?2 AND is_manifest = 1 AND touched <= ?3)
"""
_NEEDED_BY = """
SELECT parent FROM hosted_edges WHERE repository = ?1 AND child = ?2
UNION SELECT about.digest FROM hosted_links AS link JOIN hosted_links AS about
    ON about.repository = link.repository AND about.digest = link.subject AND about.is_manifest = 1
    WHERE link.repository = ?1 AND link.digest = ?2 AND link.is_manifest = 1
"""
_LACKS = """
SELECT value FROM json_each(?2) WHERE NOT EXISTS (SELECT 1 FROM hosted_links
    WHERE repository = ?1 AND digest = value AND is_manifest <= ?3) LIMIT 1
"""

_ROUNDING = 0.001
"""Seconds by which a moment may differ from itself when it is computed from an age."""


class HostedLinkRow(NamedTuple):
    """A link; the artifact type and the annotations are JSON, because they may not be valid UTF-8."""

    repository: str
    digest: str
    is_manifest: bool
    media_type: str
    size: int
    linked_at: float
    touched: float
    subject: str | None
    artifact_type: str | None
    annotations: str | None

    @classmethod
    def of_blob(cls, fact: BlobLinked) -> Self:
        """Return the row of a blob."""
        return cls(
            repository=fact.repository,
            digest=fact.digest,
            is_manifest=False,
            media_type=OCTET_STREAM,
            size=fact.size,
            linked_at=fact.linked_at,
            touched=fact.touched,
            subject=None,
            artifact_type=None,
            annotations=None,
        )

    @classmethod
    def of_manifest(cls, fact: ManifestLinked, referrer: Referrer) -> Self:
        """Return the row of a manifest."""
        return cls(
            repository=fact.repository,
            digest=fact.digest,
            is_manifest=True,
            media_type=fact.media_type,
            size=fact.size,
            linked_at=fact.linked_at,
            touched=fact.touched,
            subject=None if referrer.subject is None else str(referrer.subject),
            artifact_type=None if referrer.artifact_type is None else json.dumps(referrer.artifact_type),
            annotations=None if referrer.annotations is None else json.dumps(referrer.annotations),
        )

    def link(self) -> HostedLink:
        """Return the link of this row."""
        return HostedLink(
            descriptor=Descriptor(self.media_type, Digest.parse(self.digest), self.size),
            is_manifest=bool(self.is_manifest),
            linked_at=self.linked_at,
            referrer=Referrer(
                subject=None if self.subject is None else Digest.parse(self.subject),
                artifact_type=None if self.artifact_type is None else json.loads(self.artifact_type),
                annotations=None if self.annotations is None else json.loads(self.annotations),
            ),
        )


_PUT_LINK = f"INSERT OR REPLACE INTO hosted_links VALUES ({', '.join('?' * len(HostedLinkRow._fields))})"  # noqa: S608


@attrs.frozen(kw_only=True)
class ManifestDetails:
    """The columns of a manifest that its fact lacks: all of it can be read from its file."""

    references: tuple[Digest, ...] = ()
    referrer: Referrer = NO_REFERRER

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the details of a manifest."""
        return cls(
            references=tuple(each.digest for each in manifest.references()),
            referrer=Referrer.of(read_document(manifest.body)),
        )


def apply(connection: sqlite3.Connection, fact: Fact, details: ManifestDetails | None = None) -> None:
    """Change the tables by a fact; `details` are those of a linked manifest, None if its file is lost.

    It accepts every fact in every state of the tables: what a fact ends may not be there.
    """
    match fact:
        case BlobLinked():
            connection.execute(_PUT_LINK, HostedLinkRow.of_blob(fact))
        case ManifestLinked():
            _apply_manifest(connection, fact, details or ManifestDetails())
        case Tagged(repository, tag, _, _, touched):
            connection.execute(_TOUCH_TAGGED, (touched, repository, repository, tag))
            connection.execute("INSERT OR REPLACE INTO hosted_tags VALUES (?, ?, ?, ?, ?)", fact)
        case Untagged(repository, tag, touched):
            connection.execute(_TOUCH_TAGGED, (touched, repository, repository, tag))
            connection.execute("DELETE FROM hosted_tags WHERE repository = ? AND tag = ?", (repository, tag))
        case Unlinked(repository, digest, _):
            connection.execute(
                "DELETE FROM hosted_links WHERE repository = ? AND digest = ? AND is_manifest = ?", fact
            )
            for table, column in (("hosted_tags", "digest"), ("hosted_edges", "parent")):
                connection.execute(
                    f"DELETE FROM {table} WHERE repository = ?1 AND {column} = ?2 AND {_IS_NO_MANIFEST}",  # noqa: S608
                    (repository, digest),
                )
        case Dropped(repository):
            for table in COLUMNS:
                connection.execute(f"DELETE FROM {table} WHERE repository = ?", (repository,))  # noqa: S608


def _apply_manifest(connection: sqlite3.Connection, fact: ManifestLinked, details: ManifestDetails) -> None:
    connection.execute(_PUT_LINK, HostedLinkRow.of_manifest(fact, details.referrer))
    edges = [(fact.repository, str(child), fact.digest) for child in details.references]
    connection.executemany("INSERT OR REPLACE INTO hosted_edges VALUES (?, ?, ?)", edges)


@attrs.frozen(eq=False)
class HostedTransaction:
    """A transaction of the index: what it changes is applied to the tables at once, and in `facts` then."""

    connection: sqlite3.Connection
    facts: list[Fact] = attrs.field(factory=list, init=False)

    def change(self, fact: Fact, details: ManifestDetails | None = None) -> None:
        """Apply and record a fact."""
        apply(self.connection, fact, details)
        self.facts.append(fact)

    def has(self, sql: str, parameters: tuple[object, ...]) -> bool:
        """Return whether a query finds anything."""
        return self.connection.execute(sql, parameters).fetchone() is not None


def require(
    transaction: HostedTransaction, repository: str, blobs: Iterable[Digest], children: Iterable[Digest]
) -> None:
    """Check that a repository has all of these: `blobs` as blobs, `children` as manifests or as blobs.

    Raises:
        ManifestBlobUnknown: It lacks one.
    """
    for digests, or_manifest in ((blobs, False), (children, True)):
        names = json.dumps([str(digest) for digest in digests])
        for (missing,) in transaction.connection.execute(_LACKS, (repository, names, or_manifest)):
            raise ManifestBlobUnknown("the repository lacks what the manifest references", detail=missing)


def put_manifest(
    transaction: HostedTransaction, fact: ManifestLinked, details: ManifestDetails, tags: Iterable[Tag]
) -> None:
    """Link a manifest, with its edges and tags. The age of a manifest that loses a tag to it starts now."""
    transaction.change(fact, details)
    for tag in map(str, tags):
        transaction.change(Tagged(fact.repository, tag, fact.digest, fact.linked_at, fact.touched))


def delete_tag(
    transaction: HostedTransaction, repository: str, tag: str, now: float, digest: str | None = None
) -> bool:
    """Delete a tag, with `digest` only if it names that; return False if there was none."""
    sql = "SELECT 1 FROM hosted_tags WHERE repository = ? AND tag = ? AND digest = coalesce(?, digest)"
    if not transaction.has(sql, (repository, tag, digest)):
        return False
    transaction.change(Untagged(repository, tag, now))
    return True


def delete_link(transaction: HostedTransaction, repository: str, digest: str, kinds: Sequence[bool]) -> bool:
    """Delete the links of a digest of these kinds (True: a manifest); return False if there was none.

    The edges of a manifest and the tags that name it are deleted with it.
    """
    sql = "SELECT 1 FROM hosted_links WHERE repository = ? AND digest = ? AND is_manifest = ?"
    found = [kind for kind in kinds if transaction.has(sql, (repository, digest, kind))]
    for kind in found:
        transaction.change(Unlinked(repository, digest, kind))
    return bool(found)


def delete_repository(transaction: HostedTransaction, repository: str) -> bool:
    """Delete all rows of a repository; return False if there were none."""
    if not transaction.has("SELECT 1 FROM hosted_links WHERE repository = ?", (repository,)):
        return False
    transaction.change(Dropped(repository))
    return True


def unlink_unreferenced(
    transaction: HostedTransaction, links: Iterable[tuple[str, str]], before: float
) -> int:
    """Delete those links of blobs that are not newer than `before` and that no manifest references."""
    sql = (
        "SELECT 1 FROM hosted_links WHERE repository = ? AND digest = ? AND is_manifest = 0 "  # noqa: S608
        f"AND touched <= ? AND NOT {IS_REFERENCED.format('hosted_links')}"
    )
    unreferenced = [link for link in links if transaction.has(sql, (*link, before))]
    for repository, digest in unreferenced:
        transaction.change(Unlinked(repository, digest, is_manifest=False))
    return len(unreferenced)


def apply_plan(transaction: HostedTransaction, plan: RetentionPlan, now: float) -> tuple[int, int]:
    """Delete the planned tags and manifests, except what is needed since; return how many of both."""
    repository = str(plan.repository)
    tags = sum(delete_tag(transaction, repository, str(tag.tag), now, str(tag.digest)) for tag in plan.tags)
    untagged = {str(tag.digest) for tag in plan.tags}
    doomed: dict[str, float] = {}
    for manifest in plan.manifests:
        digest = str(manifest.digest)
        doomed[digest] = now if digest in untagged else now - manifest.idle_seconds + _ROUNDING
    removed = doomed.keys() - _needed(transaction.connection, repository, doomed)
    for digest in removed:
        delete_link(transaction, repository, digest, (True,))
    return tags, len(removed)


def _needed(connection: sqlite3.Connection, repository: str, doomed: dict[str, float]) -> set[str]:
    """Return the digests that were tagged or touched after the given moments, or that kept ones depend on."""
    dependencies: dict[str, list[str]] = {}
    needed: list[str] = []
    for digest, since in doomed.items():
        (is_changed,) = connection.execute(_CHANGED_SINCE, (repository, digest, since)).fetchone()
        needed_by = [name for (name,) in connection.execute(_NEEDED_BY, (repository, digest))]
        for name in needed_by:
            dependencies.setdefault(name, []).append(digest)
        if is_changed or any(name not in doomed for name in needed_by):
            needed.append(digest)
    found: set[str] = set()
    while needed:
        digest = needed.pop()
        if digest not in found:
            found.add(digest)
            needed += dependencies.get(digest, ())
    return found
