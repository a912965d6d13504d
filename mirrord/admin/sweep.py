"""Sweeping because the operator says so."""

from collections.abc import Iterable, Iterator
from itertools import islice

import attrs

from mirrord.admin.sweep_ports import Collector, HostedRehearsal, HostedSweep
from mirrord.admin.sweep_report import HostedSweepReport, HostedVictim, SweepReport, Victim
from mirrord.oci.content import RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import Tag

_MAX_NAMED = 1000


@attrs.define(eq=False)
class Sweeper:
    """Sweeps, or says what a sweep would do."""

    _collector: Collector

    async def sweep(self, *, is_dry_run: bool) -> SweepReport:
        """Sweep now, joining a sweep that runs; dry: name what would go, the first thousand of it.

        Raises:
            OSError: The disk failed.
        """
        if is_dry_run:
            rehearsal = await self._collector.preview()
            evicted, victims = rehearsal.evicted, tuple(map(Victim.of, rehearsal.named))
            hosted = _hosted(rehearsal.hosted.sweep, _victims(rehearsal.hosted))
            return SweepReport(True, evicted.count, evicted.size, victims, hosted)
        sweep = await self._collector.sweep()
        return SweepReport(False, sweep.evicted.count, sweep.evicted.size, (), _hosted(sweep.hosted))


def _hosted(sweep: HostedSweep, victims: Iterable[HostedVictim] = ()) -> HostedSweepReport:
    removed = sweep.removed
    return HostedSweepReport(
        sweep.tags,
        sweep.manifests,
        sweep.blobs,
        sweep.uploads,
        removed.count,
        removed.size,
        tuple(islice(victims, _MAX_NAMED)),
    )


def _victims(rehearsal: HostedRehearsal) -> Iterator[HostedVictim]:
    for thinning in rehearsal.named:
        for tag in thinning.tags:
            reason = _reason(thinning, tag.tag) or "its manifest goes"
            yield HostedVictim("tag", thinning.repository, str(tag.tag), reason)
        for manifest in thinning.manifests:
            reason = _reason(thinning, manifest.digest) or "it belongs to what goes"
            yield HostedVictim("manifest", thinning.repository, str(manifest.digest), reason)
    for repository, digest in rehearsal.lone:
        yield HostedVictim("blob", repository, str(digest), "no manifest names it")


def _reason(thinning: RetentionPlan, named: Tag | Digest) -> str | None:
    """The rule that decided, as the configuration's errors call it."""
    number = thinning.rules.get(named)
    return None if number is None else f"hosted.keep[{number}]"
