"""The `[hosted]` table: the repositories that clients push to, and how long their content is retained.

docs/configuration.md describes every key.
"""

import re
from typing import Annotated

import attrs

from mirrord.config.schema import InvalidKey, StringFormat
from mirrord.config.types import Interval, Pattern, PositiveBytes, Seconds, Timeout

_TAG_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]+", re.ASCII)


def parse_tag_pattern(text: str) -> str:
    """Parse a shell pattern that can match a tag."""
    if _TAG_PATTERN.fullmatch(text) is None:
        raise ValueError("no tag can match this pattern")
    return text


TagPattern = Annotated[str, StringFormat(parse_tag_pattern)]


@attrs.frozen(kw_only=True)
class RetentionConfig:
    """A rule that deletes old tags and manifests of some hosted repositories; None disables a criterion.

    `newest` and `older_than` apply to the tags that match `tags`, `untagged_for` to manifests.
    """

    repositories: tuple[Pattern, ...] = ("*",)
    untagged_for: Interval | None = None
    newest: int | None = None
    tags: TagPattern = "*"
    older_than: Interval | None = None

    def __attrs_post_init__(self) -> None:
        if self.untagged_for is None and self.newest is None and self.older_than is None:
            raise InvalidKey("untagged_for", "missing; set this, newest or older_than")


@attrs.frozen(kw_only=True)
class HostedConfig:
    """The repositories that clients push to, as patterns; without any, every repository is mirrored.

    `grace` protects blobs that no manifest references yet; `upload_timeout` limits a silent client.
    """

    enabled: bool = True
    repositories: tuple[Pattern, ...] = ()
    delete: bool = True
    grace: Seconds = 3600.0
    max_upload_size: PositiveBytes | None = None
    upload_timeout: Timeout = 60.0
    keep: tuple[RetentionConfig, ...] = ()
