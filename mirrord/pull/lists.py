"""Lists that only an upstream has: remembered for a minute, and for longer while it fails."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.single import SingleFlight
from mirrord.oci.errors import UpstreamError, UpstreamTimeout
from mirrord.pull.outcome import Outcome
from mirrord.pull.patience import HELD_SECONDS, UNHELD_SECONDS, within
from mirrord.pull.remembered import Remembered

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LIST_TTL_SECONDS = 60.0


@attrs.define(eq=False)
class Lists(Generic[K, V]):
    """Lists by what they are asked for, each asked for once at a time."""

    _clock: IReactorTime
    _known: Remembered[K, V]
    _listing: SingleFlight[K, V] = attrs.field(factory=SingleFlight, init=False)

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> tuple[V, Outcome]:
        """The list of `key`: remembered, or what `ask` gives.

        Raises:
            UpstreamError: Asking failed, and no list is remembered.
        """
        memory = self._known.recall(key)
        if memory is not None and memory.age_seconds < LIST_TTL_SECONDS:
            age = int(memory.age_seconds)
            return memory.value, Outcome.hit(int(LIST_TTL_SECONDS) - age, age)
        seconds = UNHELD_SECONDS if memory is None else HELD_SECONDS
        try:
            return await within(self._clock, seconds, self._ask(key, ask))
        except UpstreamError as error:
            if memory is None:
                raise
            return memory.value, Outcome.stale(error.upstream_status, int(memory.age_seconds))
        except TimeoutError:
            if memory is None:
                raise UpstreamTimeout("the upstream did not list in time") from None
            self._listing.forget(key)
            return memory.value, Outcome.stale(None, int(memory.age_seconds))

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> tuple[V, Outcome]:
        has_joined = self._listing.is_running(key)

        async def note() -> V:
            listed = await ask()
            self._known.note(key, listed)
            return listed

        listed = await self._listing.run(key, note)
        return listed, Outcome.collapsed() if has_joined else Outcome.asked(200)
