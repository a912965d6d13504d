"""Hosted content: what was pushed to us, and is ours alone to keep.

A hosted repository has no upstream to earn anything back from: what is known of it here is the truth.
"""

from typing import Any

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor

HOSTED = "hosted"
"""What stands for an upstream in the source, the metrics and the logs of a hosted repository."""


@attrs.frozen
class HostedLink:
    """That a hosted repository holds a blob or a manifest; `linked_at` is wall clock.

    Of a manifest also: its `subject`, and the `artifact_type` and `annotations` that a list of
    referrers tells of it (distribution-spec, "Listing Referrers").
    """

    descriptor: Descriptor
    is_manifest: bool
    linked_at: float
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: dict[str, Any] | None = attrs.field(default=None, hash=False)
