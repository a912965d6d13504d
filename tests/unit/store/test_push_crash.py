"""kill -9 at each system call that a push makes to the disk, and what a power cut would leave of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.store.store import Store
from tests.unit.store.cases import APP
from tests.unit.store.push_victim import READY, TAG, body, image, open_here

CALLS = ("fsync", "fdatasync", "rename", "unlink", "mkdir", "pwrite64")
"""All that change the disk, except opening a new file."""

IMAGES = 2
STRIDES = {"pwrite64": 4}
"""Of the many that write the index, every so manyth of the last forty is enough."""


class KilledTests(SynchronousTestCase):
    def setUp(self) -> None:
        if shutil.which("strace") is None:
            self.skipTest("there is no strace")
        if self.trace("unlink", 0, "counted").returncode:
            self.skipTest("strace may not trace here")

    def trace(self, call: str, when: int, name: str) -> "subprocess.CompletedProcess[str]":
        """Run a child in a store of its own; the `when`th such call is its last (0: none is)."""
        root = Path(self.mktemp()).absolute() / name
        root.mkdir(parents=True)
        self.root = root
        command = ["strace", "-f", "-qq", "-y", "-o", str(root / "trace"), "-e", f"trace={call}"]
        if when:
            command += ["-e", f"inject={call}:signal=KILL:when={when}"]
        child = [sys.executable, "-m", "tests.unit.store.push_victim", str(root / "store"), str(IMAGES)]
        (root / "store").mkdir()
        return subprocess.run([*command, *child], capture_output=True, text=True, check=False, env=os.environ)

    def test_killed_at_every_call(self) -> None:
        """Whichever call is the last, each blob, manifest and tag that was acknowledged is served, whole."""
        kills = 0
        for call in CALLS:
            self.trace(call, 0, call)
            count = len((self.root / "trace").read_text().splitlines())
            first = max(1, count - 40) if call in STRIDES else 1
            for when in range(first, count + 1, STRIDES.get(call, 1)):
                done = self.trace(call, when, f"{call}-{when}")
                kills += done.returncode != 0
                words = done.stdout.split("\n")[:-1]
                self.check(words[words.index(READY) + 1 :] if READY in words else [])
        self.assertGreater(kills, 20)

    def test_all_is_on_the_disk_before_it_is_acknowledged(self) -> None:
        """A file is synced, renamed, its folder synced, and then the index, before the acknowledgement."""
        self.trace("fsync,fdatasync,rename,write", 0, "order")
        lines = (self.root / "trace").read_text().splitlines()
        for number in range(IMAGES):
            for kind, digest in (("blob", Digest.of(body(number))), ("manifest", image(number).digest)):
                told = next(place for place, line in enumerate(lines) if f'"{kind} {number}\\n"' in line)
                renamed = max(
                    place
                    for place, line in enumerate(lines[:told])
                    if "rename(" in line and f'{digest.encoded}"' in line
                )
                old, new = (part for part in lines[renamed].split('"') if part.startswith("/"))
                self.assertTrue(any("fsync(" in line and f"<{old}>" in line for line in lines[:renamed]), old)
                after = lines[renamed:told]
                folder = f"<{Path(new).parent}>"
                synced = [place for place, line in enumerate(after) if "fsync(" in line and folder in line]
                journaled = [
                    place
                    for place, line in enumerate(after)
                    if "fdatasync(" in line and "hosted.journal-" in line
                ]
                self.assertLess(synced[0], journaled[-1])

    def test_what_is_there_is_on_the_disk_too(self) -> None:
        """A manifest that is there already is acknowledged once its folder is synced."""
        self.trace("fsync,write", 0, "again")
        lines = (self.root / "trace").read_text().splitlines()
        places = {line.split('"')[1]: place for place, line in enumerate(lines) if '\\n"' in line}
        for number in range(IMAGES):
            folder = f"/{image(number).digest.encoded[:2]}>"
            between = lines[places[f"manifest {number}\\n"] : places[f"again {number}\\n"]]
            self.assertTrue(any("fsync(" in line and folder in line for line in between))

    def check(self, acknowledged: list[str]) -> None:
        store = open_here(self.root / "store")
        try:
            for number in range(IMAGES):
                for kind, digest in (("blob", Digest.of(body(number))), ("manifest", image(number).digest)):
                    self.check_one(store, digest, is_needed=f"{kind} {number}" in acknowledged)
            tagged = store.hosted.tag(APP, TAG)
            manifests = [number for number in range(IMAGES) if f"manifest {number}" in acknowledged]
            if manifests:
                assert tagged is not None
                self.assertIn(tagged, [image(number).descriptor for number in range(manifests[-1], IMAGES)])
            if tagged is not None:
                self.assertIsNotNone(store.hosted.link(APP, tagged.digest))
        finally:
            self.result(store)

    def check_one(self, store: Store, digest: Digest, *, is_needed: bool) -> None:
        """Check that linked content is whole, and that acknowledged content is linked."""
        link = store.hosted.link(APP, digest)
        self.assertTrue(link is not None or not is_needed, digest)
        if link is None:
            return
        if link.is_manifest:
            self.assertIsNotNone(self.successResultOf(Deferred.fromCoroutine(store.manifests.read(digest))))
            return
        blob = store.blobs.open(digest)
        assert blob is not None
        self.assertTrue(digest.matches(os.pread(blob.fd, blob.size + 1, 0)))
        blob.close()

    def result(self, store: Store) -> None:
        self.successResultOf(Deferred.fromCoroutine(store.close()))
