"""Versions of the index: what an empty one begins as, and how an older one becomes a newer one.

Each step is run once, in one transaction with the number that says so: a kill leaves the old version or
the new one. The tables of the mirror could be thrown away and earned again; those of hosted repositories
could not, so no step ever loses a row of theirs.
"""

import sqlite3

VERSION = 2

_MIRRORED = """
CREATE TABLE IF NOT EXISTS content (
    digest TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL,
    last_used REAL NOT NULL, PRIMARY KEY (digest, kind)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS content_by_use ON content (last_used, digest, kind, size);
CREATE TABLE IF NOT EXISTS links (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, is_manifest INTEGER NOT NULL, last_used REAL NOT NULL,
    PRIMARY KEY (upstream, repository, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_to_manifests ON links (upstream, repository, digest) WHERE is_manifest = 1;
CREATE TABLE IF NOT EXISTS tags (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL,
    held_digest TEXT, held_type TEXT, held_size INTEGER, held_seen_at REAL,
    pending_digest TEXT, pending_type TEXT, pending_size INTEGER, pending_seen_at REAL,
    last_used REAL NOT NULL, PRIMARY KEY (upstream, repository, tag)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_by_pending ON tags (upstream, repository, pending_digest)
    WHERE pending_digest IS NOT NULL;
CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""

HOSTED_TABLES = """
CREATE TABLE hosted_links (
    repository TEXT NOT NULL, digest TEXT NOT NULL, is_manifest INTEGER NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, linked_at REAL NOT NULL, touched REAL NOT NULL, subject TEXT,
    artifact_type TEXT, annotations TEXT, PRIMARY KEY (repository, digest, is_manifest)) WITHOUT ROWID;
CREATE TABLE hosted_tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, tagged_at REAL NOT NULL,
    touched REAL NOT NULL, PRIMARY KEY (repository, tag)) WITHOUT ROWID;
CREATE TABLE hosted_edges (
    repository TEXT NOT NULL, child TEXT NOT NULL, parent TEXT NOT NULL,
    PRIMARY KEY (repository, child, parent)) WITHOUT ROWID;
"""
"""Beside wall clock, which is shown, `touched` is service time, by which things grow old (ADR 0002)."""

_HOSTED = f"""
ALTER TABLE content ADD COLUMN is_hosted INTEGER NOT NULL DEFAULT 0;
DROP INDEX content_by_use;
CREATE INDEX content_by_use ON content (last_used, digest, kind, size) WHERE is_hosted = 0;
CREATE INDEX content_hosted ON content (digest, kind, size) WHERE is_hosted = 1;
{HOSTED_TABLES}
CREATE INDEX hosted_links_by_digest ON hosted_links (digest, is_manifest, repository);
CREATE INDEX hosted_links_by_subject ON hosted_links (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX hosted_tags_by_digest ON hosted_tags (repository, digest);
CREATE INDEX hosted_edges_by_parent ON hosted_edges (repository, parent);
"""

_STEPS = (_MIRRORED, _HOSTED)


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring an index, an empty one for instance, to this version.

    Raises:
        sqlite3.DatabaseError: It is of a version that we do not know, or lacks what its version has.
        sqlite3.OperationalError: The disk refused; the index is as before.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= VERSION:
        raise sqlite3.DatabaseError(f"an index of version {version}; this is version {VERSION}")
    if version == VERSION:
        return
    steps = "".join(_STEPS[version:])
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
