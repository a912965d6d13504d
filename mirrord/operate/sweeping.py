"""Sweeping because the operator says so."""

import attrs

from mirrord.operate.answers import Swept, Victim
from mirrord.operate.ports import Collector


@attrs.define(eq=False)
class Sweeper:
    """Sweeps, or says what a sweep would do."""

    _collector: Collector

    async def sweep(self, *, is_dry_run: bool) -> Swept:
        """Sweep now, joining a sweep that runs; dry: name what would go, the first thousand of it.

        Raises:
            OSError: The disk failed.
        """
        if is_dry_run:
            rehearsal = await self._collector.rehearse()
            evicted, victims = rehearsal.evicted, tuple(map(Victim.of, rehearsal.named))
            return Swept(True, evicted.count, evicted.size, victims)
        evicted = (await self._collector.sweep()).evicted
        return Swept(False, evicted.count, evicted.size)
