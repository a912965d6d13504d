"""Benchmark pulls against Debian's docker-registry and nginx: `python bench/speed.py [--runs 5]`.

Requires docker-registry and wrk, and includes nginx if it is installed (`apt-get install docker-registry wrk
nginx-light`). The upstream is a docker-registry with one image of a 200 MB layer; each server caches it, then
all are measured in turn. Prints the median of each figure. `--baseline FOLDER` also measures the mirrord of
another checkout.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from urllib.request import Request, urlopen

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.servers import Server, start_mirrord, start_nginx, start_registry
from tests.fakes.images import OCI_MANIFEST, Image, make_image

_REPOSITORY = "library/bench"
_CONNECTIONS = 8
_WRK_CONNECTIONS = 16
_GIB = 1024**3
_MIB = 1024**2
_ACCEPT = f"Accept: {OCI_MANIFEST}"
"""The space is needed: docker-registry responds with 404 or 500 to `Accept:application/…`."""


@attrs.frozen
class Figures:
    """One run against one server."""

    cpu_per_gib: float
    by_digest: float
    by_tag: float
    pss: int


def push(url: str, image: Image) -> None:
    """Push an image to a registry."""
    for blob in image.blobs:
        with urlopen(Request(f"{url}/v2/{_REPOSITORY}/blobs/uploads/", method="POST", data=b"")) as response:
            location = response.headers["Location"]
        headers = {"Content-Type": "application/octet-stream"}
        put = Request(f"{location}&digest={blob.digest}", blob.content, headers, method="PUT")
        urlopen(put).close()
    headers = {"Content-Type": OCI_MANIFEST}
    url = f"{url}/v2/{_REPOSITORY}/manifests/latest"
    urlopen(Request(url, image.manifest.content, headers, method="PUT")).close()


def warm(server: Server, image: Image) -> None:
    """Fetch the whole image twice, so that the server has it cached."""
    for _ in range(2):
        for path in (
            f"manifests/{image.manifest.digest}",
            "manifests/latest",
            f"blobs/{image.layers[0].digest}",
        ):
            fetch(f"{server.url}/v2/{_REPOSITORY}/{path}")


def fetch(url: str) -> None:
    """Fetch a URL with curl, to exclude the work of a client from the measurement."""
    command = ["curl", "-sS", "--fail", "-o", "/dev/null", "-H", _ACCEPT, url]
    subprocess.run(command, check=True)


def requests_per_second(url: str, seconds: int) -> float:
    """Measure with wrk over sixteen connections; fail if a response is not 2xx."""
    command = ["wrk", "-t2", f"-c{_WRK_CONNECTIONS}", f"-d{seconds}", "-H", _ACCEPT, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if "Non-2xx" in output or match is None:
        raise RuntimeError(f"wrk {url} failed:\n{output}")
    return float(match.group(1))


def measure(server: Server, image: Image, seconds: int) -> Figures:
    """Fetch the blob over eight connections at once, then the manifest by digest and by tag."""
    base = f"{server.url}/v2/{_REPOSITORY}"
    layer = image.layers[0]
    before = server.cpu_seconds()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(fetch, [f"{base}/blobs/{layer.digest}"] * _CONNECTIONS * 2))
    cpu = server.cpu_seconds() - before
    by_digest = requests_per_second(f"{base}/manifests/{image.manifest.digest}", seconds)
    by_tag = requests_per_second(f"{base}/manifests/latest", seconds)
    return Figures(cpu * _GIB / (layer.size * _CONNECTIONS * 2), by_digest, by_tag, server.pss())


def median_of(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    columns = zip(*(attrs.astuple(run) for run in runs), strict=True)
    cpu, by_digest, by_tag, pss = (median(column) for column in columns)
    return Figures(cpu, by_digest, by_tag, int(pss))


def show(results: dict[str, list[Figures]]) -> None:
    """Print a row per server, and the ratio of mirrord to docker-registry."""
    medians = {name: median_of(runs) for name, runs in results.items()}
    row = "{:<18}{:>14}{:>20}{:>18}{:>12}"
    print(row.format("median", "CPU s / GiB", "by digest, req/s", "by tag, req/s", "PSS MiB"))
    for name, each in medians.items():
        cells = (
            f"{each.cpu_per_gib:.3f}",
            f"{each.by_digest:.0f}",
            f"{each.by_tag:.0f}",
            f"{each.pss / _MIB:.1f}",
        )
        print(row.format(name, *cells))
    ours, theirs = medians["mirrord"], medians["docker-registry"]
    factors = (
        f"{theirs.cpu_per_gib / max(ours.cpu_per_gib, 1e-9):.2f} x less",
        f"{ours.by_digest / theirs.by_digest:.2f} x",
        f"{ours.by_tag / theirs.by_tag:.2f} x",
    )
    print(row.format("ratio", *factors, ""))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="the duration of each run of wrk")
    parser.add_argument("--megabytes", type=int, default=200, help="the size of the layer")
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="a checkout to compare with")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mirrord-bench-"))
    started: list[Server] = []
    try:
        source = start_registry(folder / "upstream")
        started.append(source)
        image = make_image([options.megabytes * 1_000_000])
        push(source.url, image)
        started.append(start_mirrord(folder / "mirrord", source.url))
        if options.baseline is not None:
            started.append(start_mirrord(folder / "baseline", source.url, checkout=options.baseline))
        started.append(start_registry(folder / "registry", source.url))
        nginx = start_nginx(folder / "nginx", source.url)
        if nginx is not None:
            started.append(nginx)
        servers = started[1:]
        for server in servers:
            warm(server, image)
        results: dict[str, list[Figures]] = defaultdict(list)
        for run in range(options.runs):
            for server in servers:
                results[server.name].append(measure(server, image, options.seconds))
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        show(results)
    finally:
        for server in started:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
