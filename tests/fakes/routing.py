"""Routers for tests that need only some of what a daemon gives to one."""

from collections.abc import Callable
from typing import Any

from mirrord.oci.names import RepositoryKey
from mirrord.repository import Repository
from mirrord.routing import Router, StoredRepositories, UpstreamRoute

NOTHING_STORED = StoredRepositories(
    of_upstream=lambda upstream, after, limit: [],
    hosted=lambda after, limit: [],
    mirrored=lambda: iter(()),
    has_hosted=lambda name: False,
)


def no_repository(key: RepositoryKey) -> Repository:
    """Fail a test that opens a repository."""
    raise AssertionError(f"{key} was opened")


def router_of(
    *upstreams: UpstreamRoute,
    hosted_patterns: tuple[str, ...] = (),
    open_mirrored: Callable[[RepositoryKey], Any] = no_repository,
    open_hosted: Callable[[RepositoryKey], Any] = no_repository,
    stored: StoredRepositories = NOTHING_STORED,
) -> Router:
    """Return a router of these upstreams."""
    return Router.of(
        upstreams,
        hosted_patterns=hosted_patterns,
        open_mirrored=open_mirrored,
        open_hosted=open_hosted,
        stored=stored,
    )
