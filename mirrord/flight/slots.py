"""DownloadSlots: which downloads run, when more are requested than may run at a time.

A download outlives the client that started it, so clients that come and go could start any number of them.
Hence a download needs a slot, and there are few. Three rules decide which downloads have one:

- *Interest.* A download that a client reads matters more than one that only a background task reads (the
  operator's pull), and that one more than one without a reader. A download that matters less is parked for
  one that waits and matters more. One that a client reads is never parked: the response would break off.
- *Shares.* No client and no upstream has more than MAX_SHARE slots. Since a download that a client reads is
  not parked, a fair queue alone would come too late: the first client could have all slots for hours.
- *Fairness.* Among those that wait and matter equally, the next slot goes to the client with the fewest
  downloads, then to the upstream with the fewest, then to the first come.

Parking takes a moment, because a thread may still write. So a slot is *promised* first, and granted when one
that is being parked has ended. A promised slot counts as taken and one being parked as free, so that one
download is parked for each that waits; and no more are granted, or being parked, than the total.

Fair queueing by time slices, as in a network, was considered: a download cannot be moved from one slot to
another without losing its connection, so there is nothing to slice.

The difficulty is re-entry, as in download.py: parking may end within the call that begins it. So every event
changes the state first, and calls others last.
"""

from collections import Counter, deque
from collections.abc import Callable
from enum import IntEnum, auto
from typing import TypeAlias

import attrs
from twisted.internet.defer import Deferred

MAX_DOWNLOADS = 64
"""The most downloads at a time. Each costs two or three descriptors (the partial, the connection, one that a
redirect left idle), of which a process has 1024 by default; and a home's line is full with two or three."""

MAX_SHARE = 48
"""The most downloads of one client, and from one upstream: a quarter of the slots is left to others."""


class Interest(IntEnum):
    """The kind of reader that a download has; a greater one matters more."""

    NONE = auto()
    BACKGROUND = auto()
    CLIENT = auto()


@attrs.define(eq=False)
class SlotReader:
    """One reader of a download, from `Slot.enter` to `leave`."""

    _interest: Interest
    _leave: Callable[[Interest], None]
    _is_reading: bool = attrs.field(default=True, init=False)

    def leave(self) -> None:
        """Record that it no longer reads; may be called more than once."""
        if self._is_reading:
            self._is_reading = False
            self._leave(self._interest)


class SlotState(IntEnum):
    """The life of a slot; from each state it may be released."""

    WAITING = auto()
    PROMISED = auto()
    GRANTED = auto()
    PARKING = auto()
    RELEASED = auto()


@attrs.define(eq=False, kw_only=True)
class Slot:
    """The slot of one download, which waits until it is granted.

    `client` is the first that requested it, None a background task; `interest` is the greatest one of its
    readers. A slot that waits is released when its last reader leaves: a download without a reader continues,
    but does not begin.
    """

    client: str | None
    upstream: str
    _slots: "DownloadSlots"
    _park: Callable[[], None]
    state: SlotState = attrs.field(default=SlotState.WAITING, init=False)
    interest: Interest = attrs.field(default=Interest.NONE, init=False)
    _readers: Counter[Interest] = attrs.field(factory=Counter, init=False)
    _is_finishing: bool = attrs.field(default=False, init=False)
    _on_granted: list[Deferred[bool]] = attrs.field(factory=list, init=False)
    _on_released: list[Deferred[None]] = attrs.field(factory=list, init=False)

    @property
    def readers(self) -> int:
        """The number of its readers."""
        return self._readers.total()

    @property
    def is_running(self) -> bool:
        """Whether its download runs, or is being parked."""
        return self.state in {SlotState.GRANTED, SlotState.PARKING}

    @property
    def is_parking(self) -> bool:
        """Whether its download is to end, and has not ended yet."""
        return self.state is SlotState.PARKING

    def enter(self, interest: Interest) -> SlotReader:
        """Add a reader."""
        self._readers[interest] += 1
        self._update_interest()
        return SlotReader(interest, self._leave)

    def finish(self) -> None:
        """Record that all bytes have arrived: from now on the download matters as if a client read it."""
        self._is_finishing = True
        self._update_interest()

    def granted(self) -> Deferred[bool]:
        """Return a Deferred that fires with True once the download may run, with False if it never will."""
        granted: Deferred[bool] = Deferred()
        if self.state in {SlotState.WAITING, SlotState.PROMISED}:
            self._on_granted.append(granted)
        else:
            granted.callback(self.state is not SlotState.RELEASED)
        return granted

    def released(self) -> Deferred[None]:
        """Return a Deferred that fires once the download has ended."""
        released: Deferred[None] = Deferred()
        if self.state is SlotState.RELEASED:
            released.callback(None)
        else:
            self._on_released.append(released)
        return released

    def park(self) -> None:
        """Park this download, for want of room."""
        self._slots.park(self)

    def release(self) -> None:
        """Record that the download has ended, or will not begin; may be called more than once."""
        self._slots.release(self)

    def fire(self) -> None:
        """Notify those who wait for its state, after DownloadSlots has changed it."""
        state = self.state
        granted, self._on_granted = self._on_granted, []
        released: list[Deferred[None]] = []
        if state is SlotState.RELEASED:
            released, self._on_released = self._on_released, []
        for each in granted:
            each.callback(state is not SlotState.RELEASED)
        for waiting in released:
            waiting.callback(None)
        if state is SlotState.PARKING:
            self._park()

    def _leave(self, interest: Interest) -> None:
        self._readers[interest] -= 1
        if not self.readers and self.state in {SlotState.WAITING, SlotState.PROMISED}:
            self.release()
        else:
            self._update_interest()

    def _update_interest(self) -> None:
        """Set the interest to the greatest one of its readers."""
        present = [interest for interest, count in self._readers.items() if count]
        interest = Interest.CLIENT if self._is_finishing else max(present, default=Interest.NONE)
        if interest is not self.interest:
            self.interest = interest
            self._slots.interest_changed(self)


_Queue: TypeAlias = tuple[Interest, str | None, str]
"""Those that wait with the same interest, client and upstream; the first come is first."""


@attrs.define(eq=False)
class DownloadSlots:
    """The slots of all downloads; `parked` counts those that were parked."""

    _total: int = MAX_DOWNLOADS
    _share: int = MAX_SHARE
    parked: int = attrs.field(default=0, init=False)
    _waiting: dict[Slot, None] = attrs.field(factory=dict, init=False)
    _active: dict[Slot, None] = attrs.field(factory=dict, init=False)
    _parking: dict[Slot, None] = attrs.field(factory=dict, init=False)

    @property
    def waiting(self) -> int:
        """The number of downloads that wait."""
        return len(self._waiting) + sum(slot.state is SlotState.PROMISED for slot in self._active)

    def request(self, *, client: str | None, upstream: str, park: Callable[[], None]) -> Slot:
        """Return a slot: granted if one is free, waiting otherwise.

        `park` is called when the download has to end for another one. Release the slot when it has ended.
        """
        slot = Slot(client=client, upstream=upstream, slots=self, park=park)
        self._waiting[slot] = None
        self._settle()
        return slot

    async def park_all(self, interest: Interest) -> None:
        """Park the downloads of exactly this interest; return when all that are being parked have ended."""
        for slot in [each for each in self._active if each.interest is interest]:
            self.park(slot)
        for slot in list(self._parking):
            await slot.released()

    def park(self, slot: Slot) -> None:
        """Park a download; does nothing unless it is running."""
        if slot.state is SlotState.GRANTED:
            self._set_parking(slot)
            slot.fire()
            self._settle()

    def release(self, slot: Slot) -> None:
        """Free a slot, or take it off the queue; does nothing if that was done before."""
        if slot.state is SlotState.RELEASED:
            return
        slot.state = SlotState.RELEASED
        for slots in (self._waiting, self._active, self._parking):
            slots.pop(slot, None)
        slot.fire()
        self._settle()

    def interest_changed(self, slot: Slot) -> None:
        """Apply a change of a slot's interest; of those that matter equally, it is parked last."""
        if slot in self._active:
            del self._active[slot]
            self._active[slot] = None
        self._settle()

    def _settle(self) -> None:
        """Promise slots to those that wait, park others for them, and grant what is free."""
        queues: dict[_Queue, deque[Slot]] = {}
        for slot in self._waiting:
            queues.setdefault((slot.interest, slot.client, slot.upstream), deque()).append(slot)
        parked: list[Slot] = []
        while queues:
            clients = Counter(slot.client for slot in self._active)
            upstreams = Counter(slot.upstream for slot in self._active)
            best = min(queues, key=lambda queue: (-queue[0], clients[queue[1]], upstreams[queue[2]]))
            slot = queues[best][0]
            if not self._fits(slot):
                victim = self._victim(slot)
                if victim is None:
                    del queues[best]
                    continue
                self._set_parking(victim)
                parked.append(victim)
            del self._waiting[slot]
            self._active[slot] = None
            slot.state = SlotState.PROMISED
            queues[best].popleft()
            if not queues[best]:
                del queues[best]
        for slot in parked + self._grant():
            slot.fire()

    def _grant(self) -> list[Slot]:
        """Grant the slots that were promised and are free, and return them."""
        promised = [slot for slot in self._active if slot.state is SlotState.PROMISED]
        running = len(self._active) - len(promised) + len(self._parking)
        granted = promised[: self._total - running]
        for slot in granted:
            slot.state = SlotState.GRANTED
        return granted

    def _fits(self, slot: Slot, without: Slot | None = None) -> bool:
        """Return whether one more slot is within the total and the shares, `without` another one."""
        others = [each for each in self._active if each is not without]
        return (
            len(others) < self._total
            and sum(each.client == slot.client for each in others) < self._share
            and sum(each.upstream == slot.upstream for each in others) < self._share
        )

    def _victim(self, slot: Slot) -> Slot | None:
        """Return the download to park for this one: of those that matter less, the one that matters least."""
        lesser = [
            each for each in self._active if each.state is SlotState.GRANTED and each.interest < slot.interest
        ]
        lesser.sort(key=lambda each: each.interest)
        return next((each for each in lesser if self._fits(slot, each)), None)

    def _set_parking(self, slot: Slot) -> None:
        slot.state = SlotState.PARKING
        self.parked += 1
        del self._active[slot]
        self._parking[slot] = None
