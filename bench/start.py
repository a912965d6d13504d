"""Measure the start with a large store: `python bench/start.py [--blobs 1000000] [--checkout DIR]`.

Prints how long the daemon takes to listen, and how long requests to /healthz take in the first minute, while
it compares its index with its files. The blobs are links to a few empty files, so that a million are made in
a minute. `--checkout` measures another version, which makes the index itself.
"""

import argparse
import hashlib
import http.client
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.layout import Layout
from tests.integration.daemon import Daemon, Settings

_NAMES_A_FILE = 50_000
"""ext4 allows 65,000."""

_CREATE = "import pathlib, sys; from mirrord.store.schema import connect; connect(pathlib.Path(sys.argv[1]))"
_INSERT = "INSERT INTO content (digest, kind, size, media_type, last_used) VALUES (?, 'blob', 0, '', ?)"
_NOWHERE = "http://127.0.0.1:9"


def fill(layout: Layout, blobs: int, checkout: Path) -> None:
    """Make a store of empty blobs, with an index by `checkout`."""
    names = sorted(hashlib.sha256(b"%d" % number).hexdigest() for number in range(blobs))
    original = Path()
    for number, name in enumerate(names):
        path = layout.mirrored.path(ContentKind.BLOB, Digest("sha256", name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % _NAMES_A_FILE:
            os.link(original, path)
        else:
            path.touch()
            original = path
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", _CREATE, str(layout.index)], env=environment, check=True)
    with closing(sqlite3.connect(layout.index)) as connection:
        rows = ((f"sha256:{name}", number % 1000 / 10) for number, name in enumerate(names))
        connection.executemany(_INSERT, rows)
        connection.commit()


def measure(daemon: Daemon, seconds: float) -> None:
    """Start the daemon and request /healthz for so long; print the times."""
    began_at = time.monotonic()
    daemon.start()
    print(f"responds after {time.monotonic() - began_at:.2f} s")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.admin_port)
    until = time.monotonic() + seconds
    waits = []
    while (sent_at := time.monotonic()) < until:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        waits.append(time.monotonic() - sent_at)
        time.sleep(0.001)
    waits.sort()
    shown = ((name, 1000 * waits[int(share * (len(waits) - 1))]) for name, share in _SHARES)
    print(
        f"{len(waits)} requests in {seconds:.0f} s:", ", ".join(f"{name} {ms:.1f} ms" for name, ms in shown)
    )
    print("\n".join(line for line in daemon.log.splitlines() if "reconciled" in line))


_SHARES = (("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("longest", 1.0))


def main() -> None:
    """Measure, and delete the store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blobs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    folder, checkout = Path(tempfile.mkdtemp(prefix="mirrord-start-")), options.checkout.absolute()
    daemon = Daemon(folder, Settings(_NOWHERE), {"PYTHONPATH": str(checkout)})
    try:
        fill(Layout(daemon.store), options.blobs, checkout)
        measure(daemon, options.seconds)
    finally:
        daemon.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
