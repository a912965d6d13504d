"""A child that writes and commits blobs until it is killed; run by test_crash.py."""

import random
import sys
from functools import cache
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mirrord.oci.digest import Digest
from mirrord.store.store import open_store
from tests.fakes.threads import InlineThreads

BODIES = 24


@cache
def body(number: int) -> bytes:
    """Return bytes that only this number has: 200 KiB to 1 MiB."""
    return random.Random(number).randbytes(200_000 + 37_000 * number)


def digest_of(content: bytes) -> Digest:
    """Return the digest of a body."""
    return Digest.of(content)


@cache
def bodies() -> dict[Digest, bytes]:
    """Return all bodies by their digests."""
    return {Digest.of(body(number)): body(number) for number in range(BODIES)}


def body_of(digest: Digest) -> bytes:
    """Return the body of this digest."""
    return bodies()[digest]


def step() -> None:
    """Report a step."""
    sys.stdout.write(".")
    sys.stdout.flush()


async def write_for_ever(root: Path, seed: int) -> None:
    """Write, commit and evict, in an order that depends on the seed."""
    clock = Clock()
    store = open_store(
        root, clock=clock, threads=InlineThreads(), monotonic=clock.seconds, wall_clock=clock.seconds
    )
    order = random.Random(seed)
    bodies()
    while True:
        digest, content = order.choice(list(bodies().items()))
        clock.advance(1)
        if store.blobs.size_of(digest) is None:
            partial = await store.blobs.create_partial(digest, is_kept=True)
            for start in range(0, len(content), 65536):
                await partial.write(content[start : start + 65536])
                step()
            await partial.commit()
        else:
            await store.eviction.flush()
            await store.eviction.evict(list(store.eviction.entries())[: order.randrange(4)])
        step()


if __name__ == "__main__":
    Deferred.fromCoroutine(write_for_ever(Path(sys.argv[1]), int(sys.argv[2]))).addErrback(
        lambda failure: failure.printTraceback()
    )
