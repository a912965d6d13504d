"""The rows of hosted repositories, and the work of each transaction that changes them.

The functions that take a connection run in the writer's thread, each as a part of one transaction
(writer.py): what they check there nobody changes before they are done.

Times are service time but for `linked_at` and `tagged_at`, which are shown. `touched` of a link is when it
was made, or when its manifest got a tag or lost one: from then on it grows old.
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
"""The tables, with their columns as they stand there."""

CHECKS = tuple(f"SELECT {columns} FROM {table} LIMIT 0" for table, columns in COLUMNS.items())  # noqa: S608
"""They read no row, but fail where a table or a column of it is missing."""

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

_WANTED_SINCE = """
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
"""Seconds by which a moment may differ from itself, taken from an age."""


class HostedLinkRow(NamedTuple):
    """A link; the artifact type and the annotations are JSON, for they may hold what is no UTF-8."""

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
        """The row of a link."""
        of = link.descriptor
        return cls(
            str(repository),
            str(of.digest),
            link.is_manifest,
            of.media_type,
            of.size,
            link.linked_at,
            touched,
            None if link.subject is None else str(link.subject),
            None if link.artifact_type is None else json.dumps(link.artifact_type),
            None if link.annotations is None else json.dumps(link.annotations),
        )

    def link(self) -> HostedLink:
        """The link of this row."""
        return HostedLink(
            Descriptor(self.media_type, Digest.parse(self.digest), self.size),
            bool(self.is_manifest),
            self.linked_at,
            None if self.subject is None else Digest.parse(self.subject),
            None if self.artifact_type is None else json.loads(self.artifact_type),
            None if self.annotations is None else json.loads(self.annotations),
        )


_PUT_LINK = f"INSERT OR REPLACE INTO hosted_links VALUES ({', '.join('?' * len(HostedLinkRow._fields))})"  # noqa: S608


def put_link(connection: sqlite3.Connection, row: HostedLinkRow) -> None:
    """Link a blob."""
    connection.execute(_PUT_LINK, row)


def require(
    connection: sqlite3.Connection, repository: str, blobs: Iterable[Digest], children: Iterable[Digest]
) -> None:
    """Have it that a repository holds all this: `blobs` as blobs, `children` as manifests or as blobs.

    Raises:
        ManifestBlobUnknown: It does not.
    """
    for digests, or_manifest in ((blobs, False), (children, True)):
        names = json.dumps([str(digest) for digest in digests])
        for (missing,) in connection.execute(_LACKS, (repository, names, or_manifest)):
            raise ManifestBlobUnknown("the repository lacks what the manifest names", detail=missing)


def put_manifest(
    connection: sqlite3.Connection, row: HostedLinkRow, children: Sequence[Digest], tags: Iterable[Tag]
) -> None:
    """Link a manifest, with its edges and tags. What loses a tag to it grows old from now on."""
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
    """Remove a tag, if it names `digest` where that is given; false if there was none."""
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
    """Remove the links of a digest that are of these kinds (True: a manifest); false if there was none.

    With a manifest go its edges and the tags that name it.
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
    """Remove all rows of a repository; false if it held nothing."""
    counts = {
        table: connection.execute(f"DELETE FROM {table} WHERE repository = ?", (repository,)).rowcount  # noqa: S608
        for table in COLUMNS
    }
    return counts["hosted_links"] > 0


def unlink_unreferenced(
    connection: sqlite3.Connection, links: Iterable[tuple[str, str]], before: float
) -> int:
    """Remove those links of blobs that no manifest of their repository names and nobody has made since."""
    sql = (
        "DELETE FROM hosted_links WHERE repository = ? AND digest = ? AND is_manifest = 0 "  # noqa: S608
        f"AND touched <= ? AND NOT {IS_REFERENCED.format('hosted_links')}"
    )
    return sum(connection.execute(sql, (*link, before)).rowcount for link in links)


def thin(connection: sqlite3.Connection, thinning: RetentionPlan, now: float) -> tuple[int, int]:
    """Remove what was planned to go, as far as nobody has come to need it since; how many of both went."""
    repository = str(thinning.repository)
    tags = sum(
        delete_tag(connection, repository, str(gone.tag), now, str(gone.digest)) for gone in thinning.tags
    )
    untagged = {str(gone.digest) for gone in thinning.tags}
    doomed: dict[str, float] = {}
    for manifest in thinning.manifests:
        digest = str(manifest.digest)
        doomed[digest] = now if digest in untagged else now - manifest.idle_seconds + _ROUNDING
    gone = doomed.keys() - _needed(connection, repository, doomed)
    for digest in gone:
        delete_link(connection, repository, digest, (True,))
    return tags, len(gone)


def _needed(connection: sqlite3.Connection, repository: str, doomed: dict[str, float]) -> set[str]:
    """Those that were tagged or touched after the given moment, and what hangs on them or on what stays."""
    hanging: dict[str, list[str]] = {}
    needed: list[str] = []
    for digest, since in doomed.items():
        (is_wanted,) = connection.execute(_WANTED_SINCE, (repository, digest, since)).fetchone()
        above = [name for (name,) in connection.execute(_NEEDED_BY, (repository, digest))]
        for name in above:
            hanging.setdefault(name, []).append(digest)
        if is_wanted or any(name not in doomed for name in above):
            needed.append(digest)
    found: set[str] = set()
    while needed:
        digest = needed.pop()
        if digest not in found:
            found.add(digest)
            needed += hanging.get(digest, ())
    return found


def delete_content(connection: sqlite3.Connection, digest: str, *, is_manifest: bool) -> None:
    """Remove the links of all repositories to some content."""
    sql = "SELECT repository FROM hosted_links WHERE digest = ? AND is_manifest = ?"
    for (repository,) in connection.execute(sql, (digest, is_manifest)).fetchall():
        delete_link(connection, repository, digest, (is_manifest,))
