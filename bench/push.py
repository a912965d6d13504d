"""Pushes beside Debian's docker-registry: `python bench/push.py [--runs 3] [--megabytes 2000]`.

It needs docker-registry (`apt-get install docker-registry`). One client pushes one large blob to each
server in turns: in one stream, as docker does, and in chunks of 64 KiB, each a PATCH of its own. The median
rate is printed, the processor time a GiB, and by how much a server's memory grew at most.

In chunks docker-registry is given a tenth of the blob. With each chunk it looks at all that came before:
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

from bench.rivals import Rival, start_mirrord, start_registry

_CHUNK_BYTES = 64 * 1024
_STREAM_BYTES = 32 * 1024
"""What a client written in Go writes at once."""

_LOCATION = re.compile(rb"^location: *(\S+)", re.IGNORECASE | re.MULTILINE)
_LOOK_SECONDS = 0.05
_MIB = 1024**2
_GIB = 1024**3
_REPOSITORY = "bench/app"
_HOSTED = f'[hosted]\nrepositories = ["{_REPOSITORY}"]\n'
_NOWHERE = "http://127.0.0.1:9"


@attrs.frozen
class Blob:
    """One blob: a block of noise over and over, each time with its number in front; never held at once."""

    size: int
    digest: str
    _block: bytes = attrs.field(repr=False)

    @classmethod
    def make(cls, megabytes: int) -> Self:
        """A blob that no other is like."""
        count, block = megabytes * 1_000_000 // _CHUNK_BYTES, random.randbytes(_CHUNK_BYTES - 8)
        hasher = hashlib.sha256()
        for number in range(count):
            hasher.update(number.to_bytes(8, "big"))
            hasher.update(block)
        return cls(count * _CHUNK_BYTES, f"sha256:{hasher.hexdigest()}", block)

    def chunks(self) -> Iterable[bytes]:
        """Its bytes, 64 KiB at a time."""
        return (number.to_bytes(8, "big") + self._block for number in range(self.size // _CHUNK_BYTES))


@attrs.frozen
class Figures:
    """One push to one server; memory in bytes above what the server had before."""

    bytes_per_second: float
    cpu_per_gib: float
    growth: int


@attrs.define(eq=False)
class Client:
    """A connection to a registry that costs little to use, so that we measure the registry."""

    _socket: socket.socket

    @classmethod
    def connect(cls, url: str) -> Self:
        """Call a registry."""
        place = urlsplit(url)
        connection = socket.create_connection((place.hostname or "", place.port or 80))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection)

    def ask(self, method: str, target: str, body: bytes = b"", *headers: str) -> str:
        """Send a request; gives where its answer says to go on."""
        self.send(self.head(method, target, f"Content-Length: {len(body)}", *headers), body)
        return self.hear()

    def head(self, method: str, target: str, *headers: str) -> bytes:
        """The head of a request."""
        place = urlsplit(target)
        path = f"{place.path}?{place.query}" if place.query else place.path
        lines = (f"{method} {path} HTTP/1.1", "Host: bench", "Content-Type: application/octet-stream")
        return "\r\n".join((*lines, *headers, "", "")).encode()

    def send(self, *parts: bytes | memoryview) -> None:
        """Send all parts, as a rule at once."""
        sent = self._socket.sendmsg(parts)
        if sent < sum(map(len, parts)):
            self._socket.sendall(b"".join(parts)[sent:])

    def hear(self) -> str:
        """Read an answer that has no body; gives its Location."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._read()
        if not answer.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 202 ")):
            raise RuntimeError(answer.decode("latin-1"))
        match = _LOCATION.search(answer)
        return match.group(1).decode("ascii") if match else ""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise ConnectionError("the registry has hung up")
        return chunk


def push_stream(client: Client, location: str, blob: Blob) -> str:
    """Push a blob in one request, whose length the registry is not told."""
    client.send(client.head("PATCH", location, "Transfer-Encoding: chunked"))
    size = b"%x\r\n" % _STREAM_BYTES
    for chunk in blob.chunks():
        view = memoryview(chunk)
        for start in range(0, _CHUNK_BYTES, _STREAM_BYTES):
            client.send(size, view[start : start + _STREAM_BYTES], b"\r\n")
    client.send(b"0\r\n\r\n")
    return client.hear()


def push_chunks(client: Client, location: str, blob: Blob) -> str:
    """Push a blob in chunks, each a request."""
    first = 0
    for chunk in blob.chunks():
        location = client.ask("PATCH", location, chunk, f"Content-Range: {first}-{first + len(chunk) - 1}")
        first += len(chunk)
    return location


_CHUNKS = "64 KiB chunks"
WAYS: dict[str, Callable[[Client, str, Blob], str]] = {"one stream": push_stream, _CHUNKS: push_chunks}


def measure(rival: Rival, blob: Blob, push: Callable[[Client, str, Blob], str]) -> Figures:
    """Push a blob, and look at the server all the while."""
    client = Client.connect(rival.url)
    before, cpu, highest, is_over = rival.pss(), rival.cpu_seconds(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not is_over.wait(_LOOK_SECONDS):
            highest = max(highest, rival.pss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        began_at = time.monotonic()
        location = push(client, client.ask("POST", f"/v2/{_REPOSITORY}/blobs/uploads/"), blob)
        client.ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={blob.digest}")
        seconds = time.monotonic() - began_at
    finally:
        is_over.set()
        watcher.join()
        client.close()
    cpu = rival.cpu_seconds() - cpu
    return Figures(blob.size / seconds, cpu * _GIB / blob.size, max(0, highest - before))


def show(results: dict[tuple[str, str], list[Figures]]) -> None:
    """Print a row a server and way, and how mirrord compares with docker-registry."""
    row = "{:<18}{:<16}{:>10}{:>14}{:>18}"
    print(row.format("median", "one blob in", "MB/s", "CPU s / GiB", "memory, MiB more"))
    rates = {}
    for (way, name), runs in results.items():
        rates[way, name] = rate = median(run.bytes_per_second for run in runs)
        cpu, growth = median(run.cpu_per_gib for run in runs), max(run.growth for run in runs)
        print(row.format(name, way, f"{rate / 1e6:.0f}", f"{cpu:.2f}", f"{growth / _MIB:.1f}"))
    for way in WAYS:
        factor = rates[way, "mirrord"] / rates[way, "docker-registry"]
        print(row.format("mirrord is", way, f"{factor:.2f} x", "", ""))


def main() -> None:
    """Start both, push in turns, print, and stop both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=2000, help="of the blob")
    parser.add_argument("--folder", help="on the disk that is to be measured")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mirrord-bench-", dir=options.folder))
    started: list[Rival] = []
    try:
        started.append(start_mirrord(folder / "mirrord", _NOWHERE, more=_HOSTED))
        started.append(start_registry(folder / "registry"))
        results: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        for run in range(options.runs):
            for way, push in WAYS.items():
                for rival in started:
                    is_too_long = (way, rival.name) == (_CHUNKS, "docker-registry")
                    blob = Blob.make(options.megabytes // (10 if is_too_long else 1))
                    os.sync()
                    results[way, rival.name].append(measure(rival, blob, push))
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        show(results)
    finally:
        for rival in started:
            rival.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
