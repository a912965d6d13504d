"""Space on the disk that is reserved for request bodies that have not arrived yet.

The file system reports what is free now. Eight clients that begin to push at once would each find enough
room, and fill the disk together. So reserved bytes count as used until they are written or released. They are
reserved a stretch at a time: a client that announces much and sends little blocks little room.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from mirrord.hosted.ports import HostedSpace
from mirrord.oci.errors import Unavailable

STRETCH_BYTES = 32 * 1024 * 1024
"""The most that one body has reserved at a time."""


@attrs.define(eq=False)
class SpaceReservations:
    """The reservations of all bodies; `total` is their sum in bytes."""

    _space: HostedSpace
    total: int = attrs.field(default=0, init=False)

    @contextmanager
    def open(self) -> Iterator["SpaceReservation"]:
        """Open the reservation of one body, and release it on exit."""
        reservation = SpaceReservation(self)
        try:
            yield reservation
        finally:
            reservation.consume(reservation.left)

    async def check(self, size: int) -> None:
        """Check that there is room for `size` bytes beyond what is reserved.

        Raises:
            Unavailable: There is none.
        """
        if not await self._space.make_room_for_push(self.total + size):
            raise Unavailable("there is no room for this on the disk")


@attrs.define(eq=False)
class SpaceReservation:
    """The reservation of one body: `left` bytes may still be written."""

    _reservations: SpaceReservations
    left: int = attrs.field(default=0, init=False)

    async def renew(self, size: int) -> None:
        """Reserve `size` bytes in place of what is left, at once: concurrent checks see them as used.

        Raises:
            Unavailable: There is no room for them.
        """
        self.consume(self.left - size)
        await self._reservations.check(0)

    def consume(self, size: int) -> None:
        """Release `size` bytes, which are written now and visible to the file system."""
        self.left -= size
        self._reservations.total -= size
