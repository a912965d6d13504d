"""The JSON of a sweep: the response to `POST /sweep`, and `last_sweep` of `/status`."""

from collections.abc import Iterator
from itertools import islice

from mirrord.gc.collector import SweepPreview, SweepResult
from mirrord.gc.hosted import MAX_NAMED, HostedSweepPreview, HostedSweepResult
from mirrord.oci.content import Entry, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag


def sweep_document(sweep: SweepResult | SweepPreview) -> dict[str, object]:
    """Return the response to a sweep or its preview: totals, and the first MAX_NAMED victims of a preview."""
    if isinstance(sweep, SweepPreview):
        victims, hosted = sweep.victims, sweep.hosted.result
        hosted_victims = list(islice(_hosted_victims(sweep.hosted), MAX_NAMED))
    else:
        victims, hosted, hosted_victims = (), sweep.hosted, []
    return {
        "is_dry_run": isinstance(sweep, SweepPreview),
        "entries": sweep.evicted.count,
        "bytes": sweep.evicted.size,
        "victims": [_victim(entry) for entry in victims],
        "hosted": _hosted_totals(hosted) | {"victims": hosted_victims},
    }


def last_sweep_document(sweep: SweepResult | None) -> dict[str, object] | None:
    """Return the last sweep as `/status` shows it."""
    if sweep is None:
        return None
    return {
        "started_at": sweep.started_at,
        "seconds": sweep.seconds,
        "entries": sweep.evicted.count,
        "bytes": sweep.evicted.size,
        "forgotten": sweep.forgotten,
        "hosted_entries": sweep.hosted.removed.count,
        "hosted_bytes": sweep.hosted.removed.size,
    }


def _victim(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind.value,
        "name": entry.name,
        "bytes": entry.size,
        "idle_seconds": entry.idle_seconds,
    }


def _hosted_totals(result: HostedSweepResult) -> dict[str, object]:
    return {
        "tags": result.tags,
        "manifests": result.manifests,
        "blobs": result.blobs,
        "uploads": result.uploads,
        "entries": result.removed.count,
        "bytes": result.removed.size,
    }


def _hosted_victims(preview: HostedSweepPreview) -> Iterator[dict[str, str]]:
    for plan in preview.plans:
        for tag in plan.tags:
            reason = _rule(plan, tag.tag) or "its manifest is removed"
            yield _hosted_victim("tag", plan.repository, tag.tag, reason)
        for manifest in plan.manifests:
            reason = _rule(plan, manifest.digest) or "it depends on what is removed"
            yield _hosted_victim("manifest", plan.repository, manifest.digest, reason)
    for repository, digest in preview.unreferenced:
        yield _hosted_victim("blob", repository, digest, "no manifest references it")


def _hosted_victim(kind: str, repository: RepositoryName, name: Tag | Digest, reason: str) -> dict[str, str]:
    return {"kind": kind, "repository": str(repository), "name": str(name), "reason": reason}


def _rule(plan: RetentionPlan, name: Tag | Digest) -> str | None:
    """Return the rule that decided, named as in configuration errors."""
    number = plan.rules.get(name)
    return None if number is None else f"hosted.keep[{number}]"
