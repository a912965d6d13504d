"""A child that pushes images and prints what was acknowledged; run and killed by test_push_crash.py."""

import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import Tag
from mirrord.store.store import Store, open_store
from tests.fakes.threads import InlineThreads
from tests.unit.store.cases import APP, layer, manifest

READY = "ready"
TAG = Tag("v1")


def body(number: int) -> bytes:
    """Return bytes that only this number has."""
    return b"%09d" % number * 10_000


def image(number: int) -> Manifest:
    """Return an image of that blob."""
    return manifest(layer(body(number)))


def open_here(root: Path) -> Store:
    """Open the store of a child, or what a killed child left."""
    clock = Clock()
    return open_store(
        root, clock=clock, threads=InlineThreads(), monotonic=clock.seconds, wall_clock=clock.seconds
    )


def say(word: str) -> None:
    """Print an acknowledgement."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def push(root: Path, count: int) -> None:
    """Push images one after another, each under the same tag."""
    store = open_here(root)
    say(READY)
    for number in range(count):
        upload = await store.uploads.begin(APP, "ann")
        await upload.write(body(number))
        await upload.commit(Digest.of(body(number)))
        say(f"blob {number}")
        pushed = image(number)
        await store.hosted.put_manifest(APP, pushed, [TAG])
        say(f"manifest {number}")
        await store.hosted.put_manifest(APP, pushed, [TAG])
        say(f"again {number}")
    await store.close()


if __name__ == "__main__":
    Deferred.fromCoroutine(push(Path(sys.argv[1]), int(sys.argv[2]))).addErrback(
        lambda failure: failure.printTraceback()
    )
