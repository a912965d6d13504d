"""The checks of `mirrord doctor` on the upstreams, without using up a pull.

Requests are sent from here and not through the daemon: differences between the two are informative.
"""

import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import attrs

from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.formatting import format_duration
from mirrord.cli.upstream_probe import ProbeResponse, probe, probe_quota, reason_of
from mirrord.config.config import UpstreamConfig
from mirrord.oci.errors import UpstreamError
from mirrord.oci.names import DOCKER_HUB

_CONCURRENT_PROBES = 8
_WARN_CLOCK_SECONDS = 30
_FAIL_CLOCK_SECONDS = 300
_LOW_QUOTA = 0.2


@attrs.frozen
class UpstreamCheck:
    """The diagnosis of an upstream, and by how many seconds its clock is ahead of ours; None if unknown."""

    diagnosis: Diagnosis
    ahead_seconds: float | None = None


def check_upstreams(
    upstreams: Sequence[UpstreamConfig], needed: Set[str]
) -> Generator[Diagnosis, None, list[UpstreamCheck]]:
    """Check that each resolves and responds: a failure for those that are `needed`, else a warning."""
    with ThreadPoolExecutor(_CONCURRENT_PROBES) as pool:
        checks = list(pool.map(lambda one: _check(one, fail if one.name in needed else warn), upstreams))
    for check in checks:
        yield check.diagnosis
    return checks


def check_clock(checks: Sequence[UpstreamCheck]) -> Iterator[Diagnosis]:
    """Compare our clock with the median of the upstreams': tokens and certificates depend on it."""
    differences = sorted(check.ahead_seconds for check in checks if check.ahead_seconds is not None)
    if not differences:
        yield warn("clock", "no upstream has sent the time", "see above")
        return
    difference = differences[len(differences) // 2]
    direction = "behind" if difference > 0 else "ahead of"
    text = f"the clock is {format_duration(abs(difference))} {direction} that of the upstreams"
    advice = "run timedatectl set-ntp true, or set the clock"
    if abs(difference) > _FAIL_CLOCK_SECONDS:
        yield fail("clock", text, advice)
    elif abs(difference) > _WARN_CLOCK_SECONDS:
        yield warn("clock", text, advice)
    else:
        yield ok("clock", "the clock agrees with that of the upstreams")


def check_quota(upstreams: Sequence[UpstreamConfig]) -> Iterator[Diagnosis]:
    """Check how many pulls Docker Hub has left for us, by a HEAD, which it does not count."""
    for upstream in upstreams:
        if upstream.name == DOCKER_HUB:
            yield _check_quota(upstream)


def _check_quota(upstream: UpstreamConfig) -> Diagnosis:
    try:
        quota = probe_quota(upstream)
    except (OSError, ValueError, UpstreamError) as error:
        return warn(
            "quota",
            f"the quota of {upstream.name} is unknown: {reason_of(error)}",
            "mirrord status shows it after the next pull",
        )
    if quota is None or quota.remaining is None:
        return ok("quota", f"{upstream.name} reports no limit")
    window = f" in {format_duration(quota.window_seconds)}" if quota.window_seconds else ""
    source = f", counted for {quota.source}" if quota.source else ""
    text = f"{upstream.name}: {quota} pulls left{window}{source}"
    if quota.remaining == 0 or (quota.limit and quota.remaining < quota.limit * _LOW_QUOTA):
        if upstream.account:
            return warn("quota", text, "wait; cached content is served meanwhile")
        return warn("quota", text, "configure an account for docker.io: it has a higher limit")
    return ok("quota", text)


def _check(upstream: UpstreamConfig, problem: Callable[[str, str, str], Diagnosis]) -> UpstreamCheck:
    host = urlsplit(upstream.url).hostname or ""
    try:
        response = probe(upstream, "GET", f"{upstream.url}/v2/")
    except socket.gaierror as error:
        advice = "check the network and the name servers in /etc/resolv.conf"
        return UpstreamCheck(problem("dns", f"{host} does not resolve: {error.strerror}", advice))
    except OSError as error:
        advice = "check for a firewall, a missing proxy (upstream.proxy), or an outage of the upstream"
        return UpstreamCheck(
            problem("upstream", f"{upstream.name} cannot be reached: {reason_of(error)}", advice)
        )
    if response.status not in {200, 401}:
        text = f"{upstream.name} responds with {response.status}, a registry with 200 or 401"
        return UpstreamCheck(problem("upstream", text, f"check {upstream.url}, and for a proxy in between"))
    text = f"{upstream.name} responds in {response.seconds * 1000:.0f} ms"
    return UpstreamCheck(ok("upstream", text), _ahead_seconds(response))


def _ahead_seconds(response: ProbeResponse) -> float | None:
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return date.timestamp() - time.time()
