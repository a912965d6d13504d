"""Benchmark TLS against nginx: `python bench/tls.py [--runs 5] [--cipher TLS_AES_256_GCM_SHA384]`.

Requires docker-registry, nginx and curl (`apt-get install docker-registry nginx-light curl`). Both servers
serve one cached layer over TLS 1.3 with the same P-256 certificate and cipher, in turn. Prints the medians of
the CPU time per GiB over eight connections and of the CPU time per connection with a small response, and
mirrord's memory while 64 clients read slowly.
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

from bench.servers import Server, start_mirrord, start_nginx, start_registry
from bench.speed import push
from tests.fakes.certified import Certified
from tests.fakes.images import make_image

_BLOB = "v2/library/bench/blobs"
_CONNECTIONS = 8
_SMALL_RESPONSES = 200
_STREAMS = 64
_GIB = 1024**3
_MIB = 1024**2


@attrs.frozen
class Figures:
    """One run against one server, in seconds of CPU time."""

    per_gib: float
    per_connection: float


@attrs.frozen
class Curl:
    """curl with one cipher and one trusted CA."""

    cipher: str
    ca: Path

    def command(self, url: str, *options: str) -> list[str]:
        """Return the command that fetches a URL and discards the content."""
        tls = ["--tlsv1.3", "--tls13-ciphers", self.cipher, "--cacert", str(self.ca)]
        return ["curl", "-sS", "--fail", "-o", "/dev/null", *tls, *options, url]

    def fetch(self, url: str) -> None:
        """Fetch a URL."""
        subprocess.run(self.command(url), check=True)


def measure(server: Server, curl: Curl, blob: str, size: int) -> Figures:
    """Fetch the blob over eight connections at once, then a small response over many connections."""
    before = server.cpu_seconds()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(curl.fetch, [f"{server.url}/{blob}"] * _CONNECTIONS * 2))
    cpu = server.cpu_seconds() - before
    before = server.cpu_seconds()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(curl.fetch, [f"{server.url}/v2/"] * _SMALL_RESPONSES))
    small = server.cpu_seconds() - before
    return Figures(cpu * _GIB / (size * _CONNECTIONS * 2), small / _SMALL_RESPONSES)


def memory(server: Server, curl: Curl, blob: str) -> int:
    """Return the peak memory of a server in bytes while 64 clients read for some seconds."""
    command = curl.command(f"{server.url}/{blob}", "--limit-rate", "2M", "--max-time", "8")
    clients = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(_STREAMS)]
    peak = 0
    while any(client.poll() is None for client in clients):
        peak = max(peak, server.pss())
        time.sleep(0.2)
    return peak


def show(results: dict[str, list[Figures]]) -> None:
    """Print a row per server, and the ratio of mirrord to nginx."""
    medians = {
        name: Figures(median(run.per_gib for run in runs), median(run.per_connection for run in runs))
        for name, runs in results.items()
    }
    for name, each in medians.items():
        print(f"{name:<10}{each.per_gib:8.3f} CPU s / GiB{each.per_connection * 1000:10.2f} ms / connection")
    if "nginx" in medians:
        ours, theirs = medians["mirrord"], medians["nginx"]
        print(f"mirrord / nginx: {ours.per_gib / theirs.per_gib:.2f} per GiB", end=", ")
        print(f"{ours.per_connection / theirs.per_connection:.2f} per connection")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200, help="the size of the layer")
    parser.add_argument("--cipher", default="TLS_AES_256_GCM_SHA384")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mirrord-bench-"))
    started: list[Server] = []
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
        for server in started[1:] * 2:
            curl.fetch(f"{server.url}/{blob}")
        for run in range(options.runs):
            for server in started[1:]:
                results[server.name].append(measure(server, curl, blob, layer.size))
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        show(results)
        print(f"mirrord with {_STREAMS} streams: {memory(started[1], curl, blob) / _MIB:.1f} MiB PSS")
    finally:
        for server in started:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
