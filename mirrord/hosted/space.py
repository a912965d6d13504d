"""Claims: room on the disk that bodies on their way were given, and have not filled yet.

The file system says what is free now. Eight clients that begin to push at once would each hear that there
is room, and fill the disk together. So what was given counts as taken, until it is written or let go. It is
given a stretch at a time: a client that announces much and sends little keeps little from the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from mirrord.hosted.ports import HostedSpace
from mirrord.oci.errors import Unavailable

STRETCH_BYTES = 32 * 1024 * 1024
"""The most that one body has claimed at a time."""


@attrs.define(eq=False)
class SpaceReservations:
    """All that is claimed."""

    _room: HostedSpace
    total: int = attrs.field(default=0, init=False)

    @contextmanager
    def open(self) -> Iterator["SpaceReservation"]:
        """The claim of one body, let go at the end."""
        claim = SpaceReservation(self)
        try:
            yield claim
        finally:
            claim.fill(claim.left)

    async def check(self, size: int) -> None:
        """Have room for `size` bytes beyond what is claimed.

        Raises:
            Unavailable: There is none.
        """
        if not await self._room.make_room_for_push(self.total + size):
            raise Unavailable("there is no room for this on the disk")


@attrs.define(eq=False)
class SpaceReservation:
    """What one body may fill: `left` bytes."""

    _claims: SpaceReservations
    left: int = attrs.field(default=0, init=False)

    async def widen(self, size: int) -> None:
        """Claim `size` bytes in place of what is left; whoever asks meanwhile finds them taken.

        Raises:
            Unavailable: There is no room for them.
        """
        self.fill(self.left - size)
        await self._claims.check(0)

    def fill(self, size: int) -> None:
        """So much of it is written, and the file system knows of it."""
        self.left -= size
        self._claims.total -= size
