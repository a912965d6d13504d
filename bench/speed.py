"""Speed beside Debian's docker-registry and nginx; as root or not: `python bench/speed.py [--runs 5]`.

It needs docker-registry and wrk, and measures nginx too where it is installed (`apt-get install
docker-registry wrk nginx-light`). A docker-registry with one image of a 200 MB layer is the upstream;
each server caches it, then all are measured in turns, and the median of each figure is printed.
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

from bench.rivals import Rival, start_mirrord, start_nginx, start_registry
from tests.fakes.images import OCI_MANIFEST, Image, make_image

_REPOSITORY = "library/bench"
_CONNECTIONS = 8
_WRK_CONNECTIONS = 16
_GIB = 1024**3
_MIB = 1024**2
_ACCEPT = f"Accept: {OCI_MANIFEST}"
"""With its space: docker-registry answers 404 or 500 to `Accept:application/…`."""


@attrs.frozen
class Figures:
    """One run against one server."""

    cpu_per_gib: float
    by_digest: float
    by_tag: float
    pss: int


def push(url: str, image: Image) -> None:
    """Put an image into a registry."""
    for blob in image.blobs:
        with urlopen(Request(f"{url}/v2/{_REPOSITORY}/blobs/uploads/", method="POST", data=b"")) as answer:
            place = answer.headers["Location"]
        headers = {"Content-Type": "application/octet-stream"}
        put = Request(f"{place}&digest={blob.digest}", blob.content, headers, method="PUT")
        urlopen(put).close()
    headers = {"Content-Type": OCI_MANIFEST}
    url = f"{url}/v2/{_REPOSITORY}/manifests/latest"
    urlopen(Request(url, image.manifest.content, headers, method="PUT")).close()


def warm(rival: Rival, image: Image) -> None:
    """Let a server cache the whole image, twice, so that the second time all is there."""
    for _ in range(2):
        for path in (
            f"manifests/{image.manifest.digest}",
            "manifests/latest",
            f"blobs/{image.layers[0].digest}",
        ):
            fetch(f"{rival.url}/v2/{_REPOSITORY}/{path}")


def fetch(url: str) -> None:
    """One whole answer, to nowhere, by curl: no work of ours in the measurement."""
    command = ["curl", "-sS", "--fail", "-o", "/dev/null", "-H", _ACCEPT, url]
    subprocess.run(command, check=True)


def requests_per_second(url: str, seconds: int) -> float:
    """What wrk measures with sixteen connections; an answer that is not 2xx spoils it."""
    command = ["wrk", "-t2", f"-c{_WRK_CONNECTIONS}", f"-d{seconds}", "-H", _ACCEPT, url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(f"{url} was not answered 200:\n{said}")
    match = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if match is None:
        raise RuntimeError(f"wrk says nothing about {url}:\n{said}")
    return float(match.group(1))


def measure(rival: Rival, image: Image, seconds: int) -> Figures:
    """One run: the blob over eight connections at once, then the manifest by digest and by tag."""
    base = f"{rival.url}/v2/{_REPOSITORY}"
    layer = image.layers[0]
    before = rival.cpu_seconds()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(fetch, [f"{base}/blobs/{layer.digest}"] * _CONNECTIONS * 2))
    cpu = rival.cpu_seconds() - before
    by_digest = requests_per_second(f"{base}/manifests/{image.manifest.digest}", seconds)
    by_tag = requests_per_second(f"{base}/manifests/latest", seconds)
    return Figures(cpu * _GIB / (layer.size * _CONNECTIONS * 2), by_digest, by_tag, rival.pss())


def middle(runs: list[Figures]) -> Figures:
    """The median of each figure."""
    columns = zip(*(attrs.astuple(run) for run in runs), strict=True)
    cpu, by_digest, by_tag, pss = (median(column) for column in columns)
    return Figures(cpu, by_digest, by_tag, int(pss))


def show(results: dict[str, list[Figures]]) -> None:
    """Print a row a server, and how mirrord compares with docker-registry."""
    medians = {name: middle(runs) for name, runs in results.items()}
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
    print(row.format("mirrord is", *factors, ""))


def main() -> None:
    """Start all, measure in turns, print, and stop all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each run of wrk")
    parser.add_argument("--megabytes", type=int, default=200, help="of the layer")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mirrord-bench-"))
    started: list[Rival] = []
    try:
        source = start_registry(folder / "upstream")
        started.append(source)
        image = make_image([options.megabytes * 1_000_000])
        push(source.url, image)
        rivals = [start_mirrord(folder / "mirrord", source.url)]
        started += rivals
        rivals.append(start_registry(folder / "registry", source.url))
        started.append(rivals[-1])
        nginx = start_nginx(folder / "nginx", source.url)
        if nginx is not None:
            rivals.append(nginx)
            started.append(nginx)
        for rival in rivals:
            warm(rival, image)
        results: dict[str, list[Figures]] = defaultdict(list)
        for run in range(options.runs):
            for rival in rivals:
                results[rival.name].append(measure(rival, image, options.seconds))
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        show(results)
    finally:
        for rival in started:
            rival.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
