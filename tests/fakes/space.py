"""Room on the disk; it keeps the contract of the collector (tests/unit/fakes/test_space.py)."""

import attrs

from mirrord.oci.digest import Digest


@attrs.define(eq=False)
class FakeSpace:
    """Has room for `free` bytes that are kept, and for `disk` bytes that are not.

    `pushes` are the sizes for which pushes requested room; `emergencies` counts the times that the disk was
    full, after which a retry makes sense if `can_evict`.
    """

    free: int = 1 << 40
    disk: int = 1 << 40
    can_evict: bool = True
    emergencies: int = 0
    pushes: list[int] = attrs.field(factory=list)

    def can_fit(self, size: int, digest: Digest, *, is_kept: bool) -> bool:
        return size <= (self.free if is_kept else self.disk)

    async def make_room(
        self, size: int, digest: Digest | None = None, *, is_kept: bool = True, may_evict: bool = True
    ) -> bool:
        return size <= (self.free if is_kept else self.disk)

    async def free_in_emergency(self, size: int) -> bool:
        self.emergencies += 1
        return self.can_evict

    async def make_room_for_push(self, size: int) -> bool:
        self.pushes.append(size)
        return size <= self.free
