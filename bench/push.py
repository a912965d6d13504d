"""Benchmark pushes against Debian's docker-registry: `python bench/push.py [--runs 3] [--megabytes 2000]`.

Requires docker-registry (`apt-get install docker-registry`). One client pushes one large blob to each server
in turn: in one stream, as docker does, and in chunks of 64 KiB, each in a PATCH of its own. Prints the median
rate, the CPU time per GiB, and the largest growth of the server's memory. `--baseline FOLDER` compares with
the mirrord of another checkout instead.

In chunks docker-registry receives a tenth of the blob. It reads all earlier chunks again with each new one:
2 GB would take it twenty minutes, and the smaller blob is to its advantage.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Self
from urllib.parse import urlsplit

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.servers import Server, knows_key, start_mirrord, start_registry

_CHUNK_BYTES = 64 * 1024
_STREAM_BYTES = 32 * 1024
"""The size of one write of a client written in Go."""

_LOCATION = re.compile(rb"^location: *(\S+)", re.IGNORECASE | re.MULTILINE)
_POLL_SECONDS = 0.05
_MIB = 1024**2
_GIB = 1024**3
_REPOSITORY = "bench/app"
_HOSTED = f'[hosted]\nrepositories = ["{_REPOSITORY}"]\n'
_LOOPBACK = "push_from_loopback"
_NOWHERE = "http://127.0.0.1:9"


@attrs.frozen
class Blob:
    """A blob of one random block, repeated with its number in front; never in memory as a whole."""

    size: int
    digest: str
    _block: bytes = attrs.field(repr=False)

    @classmethod
    def make(cls, megabytes: int) -> Self:
        """Return a blob with unique content."""
        count, block = megabytes * 1_000_000 // _CHUNK_BYTES, random.randbytes(_CHUNK_BYTES - 8)
        hasher = hashlib.sha256()
        for number in range(count):
            hasher.update(number.to_bytes(8, "big"))
            hasher.update(block)
        return cls(count * _CHUNK_BYTES, f"sha256:{hasher.hexdigest()}", block)

    def chunks(self) -> Iterable[bytes]:
        """Return the content in chunks of 64 KiB."""
        return (number.to_bytes(8, "big") + self._block for number in range(self.size // _CHUNK_BYTES))


@attrs.frozen
class Figures:
    """One push to one server; `growth` is the increase of the server's memory in bytes."""

    bytes_per_second: float
    cpu_per_gib: float
    growth: int


@attrs.define(eq=False)
class Client:
    """A connection to a registry with little overhead, so that the registry is measured."""

    _socket: socket.socket

    @classmethod
    def connect(cls, url: str) -> Self:
        """Connect to a registry."""
        place = urlsplit(url)
        connection = socket.create_connection((place.hostname or "", place.port or 80))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection)

    def request(self, method: str, target: str, body: bytes = b"", *headers: str) -> str:
        """Send a request; return the Location of the response."""
        self.send(self.head(method, target, f"Content-Length: {len(body)}", *headers), body)
        return self.receive()

    def head(self, method: str, target: str, *headers: str) -> bytes:
        """Return the head of a request."""
        place = urlsplit(target)
        path = f"{place.path}?{place.query}" if place.query else place.path
        lines = (f"{method} {path} HTTP/1.1", "Host: bench", "Content-Type: application/octet-stream")
        return "\r\n".join((*lines, *headers, "", "")).encode()

    def send(self, *parts: bytes | memoryview) -> None:
        """Send all parts, usually in one system call."""
        sent = self._socket.sendmsg(parts)
        if sent < sum(map(len, parts)):
            self._socket.sendall(b"".join(parts)[sent:])

    def receive(self) -> str:
        """Read a response without a body; return its Location."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._read()
        if not head.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 202 ")):
            raise RuntimeError(head.decode("latin-1"))
        match = _LOCATION.search(head)
        return match.group(1).decode("ascii") if match else ""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise ConnectionError("the registry closed the connection")
        return chunk


def push_stream(client: Client, location: str, blob: Blob) -> str:
    """Push a blob in one request without Content-Length."""
    client.send(client.head("PATCH", location, "Transfer-Encoding: chunked"))
    size = b"%x\r\n" % _STREAM_BYTES
    for chunk in blob.chunks():
        view = memoryview(chunk)
        for start in range(0, _CHUNK_BYTES, _STREAM_BYTES):
            client.send(size, view[start : start + _STREAM_BYTES], b"\r\n")
    client.send(b"0\r\n\r\n")
    return client.receive()


def push_chunks(client: Client, location: str, blob: Blob) -> str:
    """Push a blob in chunks, each in a request of its own."""
    first = 0
    for chunk in blob.chunks():
        location = client.request(
            "PATCH", location, chunk, f"Content-Range: {first}-{first + len(chunk) - 1}"
        )
        first += len(chunk)
    return location


_CHUNKS = "64 KiB chunks"
METHODS: dict[str, Callable[[Client, str, Blob], str]] = {"one stream": push_stream, _CHUNKS: push_chunks}


def measure(server: Server, blob: Blob, push: Callable[[Client, str, Blob], str]) -> Figures:
    """Push a blob, and sample the memory of the server meanwhile."""
    client = Client.connect(server.url)
    before, cpu, highest, is_done = server.pss(), server.cpu_seconds(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not is_done.wait(_POLL_SECONDS):
            highest = max(highest, server.pss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        began_at = time.monotonic()
        location = push(client, client.request("POST", f"/v2/{_REPOSITORY}/blobs/uploads/"), blob)
        client.request("PUT", f"{location}{'&' if '?' in location else '?'}digest={blob.digest}")
        seconds = time.monotonic() - began_at
    finally:
        is_done.set()
        watcher.join()
        client.close()
    cpu = server.cpu_seconds() - cpu
    return Figures(blob.size / seconds, cpu * _GIB / blob.size, max(0, highest - before))


def start_pushable(folder: Path, checkout: Path | None = None) -> Server:
    """Start mirrord from this checkout or another, with a repository to which this host may push."""
    allowed = f"{_LOOPBACK} = true\n" if knows_key(checkout, _LOOPBACK) else ""
    return start_mirrord(folder, _NOWHERE, more=_HOSTED + allowed, checkout=checkout)


def show(results: dict[tuple[str, str], list[Figures]], other: str) -> None:
    """Print a row per server and method, and the ratio of mirrord to the other server."""
    row = "{:<18}{:<16}{:>10}{:>14}{:>18}"
    print(row.format("median", "one blob in", "MB/s", "CPU s / GiB", "memory, + MiB"))
    rates = {}
    for (method, name), runs in results.items():
        rates[method, name] = rate = median(run.bytes_per_second for run in runs)
        cpu, growth = median(run.cpu_per_gib for run in runs), max(run.growth for run in runs)
        print(row.format(name, method, f"{rate / 1e6:.0f}", f"{cpu:.2f}", f"{growth / _MIB:.1f}"))
    for method in METHODS:
        factor = rates[method, "mirrord"] / rates[method, other]
        print(row.format("ratio", method, f"{factor:.2f} x", "", ""))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=2000, help="the size of the blob")
    parser.add_argument("--folder", help="a folder on the disk to measure")
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="a checkout to compare with")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mirrord-bench-", dir=options.folder))
    started: list[Server] = []
    try:
        started.append(start_pushable(folder / "mirrord"))
        if options.baseline is None:
            started.append(start_registry(folder / "registry"))
        else:
            started.append(start_pushable(folder / "baseline", options.baseline))
        results: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        for run in range(options.runs):
            for method, push in METHODS.items():
                for server in started:
                    is_too_long = (method, server.name) == (_CHUNKS, "docker-registry")
                    blob = Blob.make(options.megabytes // (10 if is_too_long else 1))
                    os.sync()
                    results[method, server.name].append(measure(server, blob, push))
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        show(results, started[1].name)
    finally:
        for server in started:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
