"""The rows of hosted repositories, and the body of each transaction that changes them.

The functions that accept a connection run in the writer's thread, each as part of one transaction
(database.py): what they check cannot change before they are done.

Times are service time, except `linked_at` and `tagged_at`, which are shown. `touched` of a link is when it
was created, or when its manifest last gained or lost a tag: its age is counted from then.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from mirrord.oci.content import HostedLink, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestBlobUnknown
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryName, Tag

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
    def of(cls, repository: RepositoryName, link: HostedLink, touched: float) -> Self:
        """Return the row of a link."""
        descriptor = link.descriptor
        return cls(
            repository=str(repository),
            digest=str(descriptor.digest),
            is_manifest=link.is_manifest,
            media_type=descriptor.media_type,
            size=descriptor.size,
            linked_at=link.linked_at,
            touched=touched,
            subject=None if link.subject is None else str(link.subject),
            artifact_type=None if link.artifact_type is None else json.dumps(link.artifact_type),
            annotations=None if link.annotations is None else json.dumps(link.annotations),
        )

    def link(self) -> HostedLink:
        """Return the link of this row."""
        return HostedLink(
            descriptor=Descriptor(self.media_type, Digest.parse(self.digest), self.size),
            is_manifest=bool(self.is_manifest),
            linked_at=self.linked_at,
            subject=None if self.subject is None else Digest.parse(self.subject),
            artifact_type=None if self.artifact_type is None else json.loads(self.artifact_type),
            annotations=None if self.annotations is None else json.loads(self.annotations),
        )


_PUT_LINK = f"INSERT OR REPLACE INTO hosted_links VALUES ({', '.join('?' * len(HostedLinkRow._fields))})"  # noqa: S608


def put_link(connection: sqlite3.Connection, row: HostedLinkRow) -> None:
    """Link a blob."""
    connection.execute(_PUT_LINK, row)


def require(
    connection: sqlite3.Connection, repository: str, blobs: Iterable[Digest], children: Iterable[Digest]
) -> None:
    """Check that a repository has all of these: `blobs` as blobs, `children` as manifests or as blobs.

    Raises:
        ManifestBlobUnknown: It lacks one.
    """
    for digests, or_manifest in ((blobs, False), (children, True)):
        names = json.dumps([str(digest) for digest in digests])
        for (missing,) in connection.execute(_LACKS, (repository, names, or_manifest)):
            raise ManifestBlobUnknown("the repository lacks what the manifest references", detail=missing)


def put_manifest(
    connection: sqlite3.Connection, row: HostedLinkRow, children: Sequence[Digest], tags: Iterable[Tag]
) -> None:
    """Link a manifest, with its edges and tags. The age of a manifest that loses a tag to it starts now."""
    repository, digest = row.repository, row.digest
    put_link(connection, row)
    edges = [(repository, str(child), digest) for child in children]
    connection.executemany("INSERT OR REPLACE INTO hosted_edges VALUES (?, ?, ?)", edges)
    for name in map(str, tags):
        connection.execute(_TOUCH_TAGGED, (row.touched, repository, repository, name))
        tagged = (repository, name, digest, row.linked_at, row.touched)
        connection.execute("INSERT OR REPLACE INTO hosted_tags VALUES (?, ?, ?, ?, ?)", tagged)


def delete_tag(
    connection: sqlite3.Connection, repository: str, tag: str, now: float, digest: str | None = None
) -> bool:
    """Delete a tag, with `digest` only if it names that; return False if there was none."""
    found = connection.execute(
        "SELECT 1 FROM hosted_tags WHERE repository = ? AND tag = ? AND digest = coalesce(?, digest)",
        (repository, tag, digest),
    ).fetchone()
    if found is None:
        return False
    connection.execute(_TOUCH_TAGGED, (now, repository, repository, tag))
    connection.execute("DELETE FROM hosted_tags WHERE repository = ? AND tag = ?", (repository, tag))
    return True


def delete_link(connection: sqlite3.Connection, repository: str, digest: str, kinds: Sequence[bool]) -> bool:
    """Delete the links of a digest of these kinds (True: a manifest); return False if there was none.

    The edges of a manifest and the tags that name it are deleted with it.
    """
    count = 0
    for is_manifest in kinds:
        sql = "DELETE FROM hosted_links WHERE repository = ? AND digest = ? AND is_manifest = ?"
        count += connection.execute(sql, (repository, digest, is_manifest)).rowcount
    for table, column in (("hosted_tags", "digest"), ("hosted_edges", "parent")):
        connection.execute(
            f"DELETE FROM {table} WHERE repository = ?1 AND {column} = ?2 AND {_IS_NO_MANIFEST}",  # noqa: S608
            (repository, digest),
        )
    return count > 0


def delete_repository(connection: sqlite3.Connection, repository: str) -> bool:
    """Delete all rows of a repository; return False if there were none."""
    counts = {
        table: connection.execute(f"DELETE FROM {table} WHERE repository = ?", (repository,)).rowcount  # noqa: S608
        for table in COLUMNS
    }
    return counts["hosted_links"] > 0


def unlink_unreferenced(
    connection: sqlite3.Connection, links: Iterable[tuple[str, str]], before: float
) -> int:
    """Delete those links of blobs that are not newer than `before` and that no manifest references."""
    sql = (
        "DELETE FROM hosted_links WHERE repository = ? AND digest = ? AND is_manifest = 0 "  # noqa: S608
        f"AND touched <= ? AND NOT {IS_REFERENCED.format('hosted_links')}"
    )
    return sum(connection.execute(sql, (*link, before)).rowcount for link in links)


def apply_plan(connection: sqlite3.Connection, plan: RetentionPlan, now: float) -> tuple[int, int]:
    """Delete the planned tags and manifests, except what is needed since; return how many of both."""
    repository = str(plan.repository)
    tags = sum(delete_tag(connection, repository, str(tag.tag), now, str(tag.digest)) for tag in plan.tags)
    untagged = {str(tag.digest) for tag in plan.tags}
    doomed: dict[str, float] = {}
    for manifest in plan.manifests:
        digest = str(manifest.digest)
        doomed[digest] = now if digest in untagged else now - manifest.idle_seconds + _ROUNDING
    removed = doomed.keys() - _needed(connection, repository, doomed)
    for digest in removed:
        delete_link(connection, repository, digest, (True,))
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


def delete_content(connection: sqlite3.Connection, digest: str, *, is_manifest: bool) -> None:
    """Delete the links of all repositories to some content."""
    sql = "SELECT repository FROM hosted_links WHERE digest = ? AND is_manifest = ?"
    for (repository,) in connection.execute(sql, (digest, is_manifest)).fetchall():
        delete_link(connection, repository, digest, (is_manifest,))
