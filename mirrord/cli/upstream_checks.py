"""The doctor's look at the upstreams, by what costs no pull.

He asks from here and not through the daemon: what differs between the two is worth knowing.
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
from mirrord.cli.upstream_probe import ProbeResponse, ask, ask_quota, reason_of
from mirrord.config.config import UpstreamConfig
from mirrord.oci.errors import UpstreamError
from mirrord.oci.names import DOCKER_HUB

_AT_ONCE = 8
_ODD_SECONDS = 30
_WRONG_SECONDS = 300
_FEW = 0.2


@attrs.frozen
class Seen:
    """What was found of an upstream, and by how many seconds its clock is ahead of ours, if it told."""

    finding: Diagnosis
    ahead_seconds: float | None = None


def check_upstreams(
    upstreams: Sequence[UpstreamConfig], needed: Set[str]
) -> Generator[Diagnosis, None, list[Seen]]:
    """Whether each is found and answers: it fails for those that are `needed`, and warns for others."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        seen = list(pool.map(lambda one: _check(one, fail if one.name in needed else warn), upstreams))
    for one in seen:
        yield one.finding
    return seen


def check_clock(seen: Sequence[Seen]) -> Iterator[Diagnosis]:
    """Whether our clock agrees with most of the upstreams' (tokens and certificates live by it)."""
    differences = sorted(one.ahead_seconds for one in seen if one.ahead_seconds is not None)
    if not differences:
        yield warn("clock", "no upstream has told the time", "see above")
        return
    difference = differences[len(differences) // 2]
    way = "behind" if difference > 0 else "ahead of"
    told = f"ours is {format_duration(abs(difference))} {way} the upstreams'"
    advice = "timedatectl set-ntp true, or set the clock"
    if abs(difference) > _WRONG_SECONDS:
        yield fail("clock", told, advice)
    elif abs(difference) > _ODD_SECONDS:
        yield warn("clock", told, advice)
    else:
        yield ok("clock", "ours agrees with the upstreams'")


def check_quota(upstreams: Sequence[UpstreamConfig]) -> Iterator[Diagnosis]:
    """How many pulls Docker Hub has left for us; it tells by a HEAD, which it does not count."""
    for upstream in upstreams:
        if upstream.name == DOCKER_HUB:
            yield _check_quota(upstream)


def _check_quota(upstream: UpstreamConfig) -> Diagnosis:
    try:
        quota = ask_quota(upstream)
    except (OSError, ValueError, UpstreamError) as error:
        return warn(
            "quota",
            f"{upstream.name} does not tell: {reason_of(error)}",
            "it is asked again at the next pull",
        )
    if quota is None or quota.remaining is None:
        return ok("quota", f"{upstream.name} names no limit")
    window = f" in {format_duration(quota.window_seconds)}" if quota.window_seconds else ""
    whose = f", counted for {quota.source}" if quota.source else ""
    told = f"{upstream.name}: {quota} pulls left{window}{whose}"
    if quota.remaining == 0 or (quota.limit and quota.remaining < quota.limit * _FEW):
        advice = (
            "wait; what is held is served" if upstream.account else "give docker.io an account: it has more"
        )
        return warn("quota", told, advice)
    return ok("quota", told)


def _check(upstream: UpstreamConfig, complain: Callable[[str, str, str], Diagnosis]) -> Seen:
    host = urlsplit(upstream.url).hostname or ""
    try:
        answer = ask(upstream, "GET", f"{upstream.url}/v2/")
    except socket.gaierror as error:
        advice = "is there a network, and a name server in /etc/resolv.conf?"
        return Seen(complain("dns", f"{host} is not found: {error.strerror}", advice))
    except OSError as error:
        advice = "a firewall, a proxy that is not configured (upstream.proxy), or an outage of theirs"
        return Seen(complain("upstream", f"{upstream.name} cannot be reached: {reason_of(error)}", advice))
    if answer.status not in {200, 401}:
        text = f"{upstream.name} answers {answer.status} where a registry says 200 or 401"
        return Seen(complain("upstream", text, f"is {upstream.url} right, and is there a proxy in between?"))
    return Seen(ok("upstream", f"{upstream.name} answers in {answer.seconds * 1000:.0f} ms"), _ahead(answer))


def _ahead(answer: ProbeResponse) -> float | None:
    try:
        told = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None
    return told.timestamp() - time.time()
