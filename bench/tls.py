"""TLS beside nginx: `python bench/tls.py [--runs 5] [--cipher TLS_AES_256_GCM_SHA384]`.

It needs docker-registry, nginx and curl (`apt-get install docker-registry nginx-light curl`). Both serve
one cached layer by TLS 1.3 with the same P-256 certificate and cipher, in turns; printed are the medians
of CPU a GiB over eight connections, of CPU a connection with a small answer, and mirrord's memory while
64 clients read slowly.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.rivals import Rival, start_mirrord, start_nginx, start_registry
from bench.speed import push
from tests.fakes.certified import Certified
from tests.fakes.images import make_image

_BLOB = "v2/library/bench/blobs"
_CONNECTIONS = 8
_GREETINGS = 200
_STREAMS = 64
_GIB = 1024**3
_MIB = 1024**2


@attrs.frozen
class Figures:
    """One run against one server: seconds of CPU."""

    per_gib: float
    per_greeting: float


@attrs.frozen
class Curl:
    """A client that is not ours, with one cipher and one trust."""

    cipher: str
    ca: Path

    def command(self, url: str, *options: str) -> list[str]:
        """What fetches a URL to nowhere."""
        tls = ["--tlsv1.3", "--tls13-ciphers", self.cipher, "--cacert", str(self.ca)]
        return ["curl", "-sS", "--fail", "-o", "/dev/null", *tls, *options, url]

    def fetch(self, url: str) -> None:
        """One whole answer."""
        subprocess.run(self.command(url), check=True)


def measure(rival: Rival, curl: Curl, blob: str, size: int) -> Figures:
    """One run: the blob over eight connections at once, then many connections for a small answer each."""
    before = rival.cpu_seconds()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(curl.fetch, [f"{rival.url}/{blob}"] * _CONNECTIONS * 2))
    cpu = rival.cpu_seconds() - before
    before = rival.cpu_seconds()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(curl.fetch, [f"{rival.url}/v2/"] * _GREETINGS))
    greetings = rival.cpu_seconds() - before
    return Figures(cpu * _GIB / (size * _CONNECTIONS * 2), greetings / _GREETINGS)


def memory(rival: Rival, curl: Curl, blob: str) -> int:
    """The most memory in bytes that a server takes while 64 clients read for some seconds."""
    command = curl.command(f"{rival.url}/{blob}", "--limit-rate", "2M", "--max-time", "8")
    clients = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(_STREAMS)]
    most = 0
    while any(client.poll() is None for client in clients):
        most = max(most, rival.pss())
        time.sleep(0.2)
    return most


def show(results: dict[str, list[Figures]]) -> None:
    """Print a row a server, and how mirrord compares."""
    medians = {
        name: Figures(median(run.per_gib for run in runs), median(run.per_greeting for run in runs))
        for name, runs in results.items()
    }
    for name, each in medians.items():
        print(f"{name:<10}{each.per_gib:8.3f} CPU s / GiB{each.per_greeting * 1000:10.2f} ms / connection")
    if "nginx" in medians:
        ours, theirs = medians["mirrord"], medians["nginx"]
        print(f"mirrord / nginx: {ours.per_gib / theirs.per_gib:.2f} a GiB", end=", ")
        print(f"{ours.per_greeting / theirs.per_greeting:.2f} a connection")


def main() -> None:
    """Start all, measure in turns, print, and stop all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200, help="of the layer")
    parser.add_argument("--cipher", default="TLS_AES_256_GCM_SHA384")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mirrord-bench-"))
    started: list[Rival] = []
    try:
        started.append(start_registry(folder / "upstream"))
        upstream = started[0].url
        image = make_image([options.megabytes * 1_000_000])
        push(upstream, image)
        certified = Certified(folder)
        pair = certified.issue("localhost")
        certified.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        curl = Curl(options.cipher, folder / "ca.pem")
        started.append(start_mirrord(folder / "mirrord", upstream, pair))
        nginx = start_nginx(folder / "nginx", upstream, pair)
        if nginx is not None:
            started.append(nginx)
        layer = image.layers[0]
        blob = f"{_BLOB}/{layer.digest}"
        results: dict[str, list[Figures]] = defaultdict(list)
        for rival in started[1:] * 2:
            curl.fetch(f"{rival.url}/{blob}")
        for run in range(options.runs):
            for rival in started[1:]:
                results[rival.name].append(measure(rival, curl, blob, layer.size))
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        show(results)
        print(f"mirrord with {_STREAMS} streams: {memory(started[1], curl, blob) / _MIB:.1f} MiB PSS")
    finally:
        for rival in started:
            rival.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
