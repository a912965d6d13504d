"""The checks of `mirrord doctor` on the upstreams, without using up a pull.

Requests are sent from here, with the proxy, trust and account that the daemon would use, and not through the
daemon: differences between the two are informative.
"""

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from statistics import median_high
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

import attrs
from twisted.web.http_headers import Headers

from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.formatting import format_duration
from mirrord.config.config import AccountConfig, UpstreamConfig
from mirrord.config.types import read_password
from mirrord.oci.errors import UpstreamError, UpstreamRefused
from mirrord.oci.names import RepositoryName
from mirrord.upstream.challenge import Challenge, choose
from mirrord.upstream.quota import Quota
from mirrord.upstream.tokens import TokenRequest, UpstreamToken, basic

_CONCURRENT_PROBES = 8
_WARN_CLOCK_SECONDS = 30
_FAIL_CLOCK_SECONDS = 300
_LOW_QUOTA = 0.2
_QUOTA_REPOSITORY = RepositoryName("ratelimitpreview/test")
"""Docker's repository for this purpose (docs.docker.com, "Usage and limits")."""

_MAX_BYTES = 64 * 1024


@attrs.frozen(kw_only=True)
class ProbeResponse:
    """A response of an upstream, and how long it took; the body of an error is omitted."""

    status: int
    headers: Message
    body: bytes = attrs.field(default=b"", repr=False)
    seconds: float


@attrs.frozen
class UpstreamCheck:
    """The diagnosis of an upstream, and by how many seconds its clock is ahead of ours; None if unknown."""

    diagnosis: Diagnosis
    ahead_seconds: float | None = None


def check_upstreams(upstreams: Sequence[UpstreamConfig], needed: Set[str]) -> list[UpstreamCheck]:
    """Check that each resolves and responds: a failure for those that are `needed`, else a warning."""
    with ThreadPoolExecutor(_CONCURRENT_PROBES) as pool:
        return list(pool.map(lambda one: _check(one, fail if one.name in needed else warn), upstreams))


def check_clock(checks: Iterable[UpstreamCheck]) -> Diagnosis:
    """Compare our clock with the median of the upstreams': tokens and certificates depend on it."""
    differences = [check.ahead_seconds for check in checks if check.ahead_seconds is not None]
    if not differences:
        return warn("clock", "no upstream has sent the time", "see above")
    difference = median_high(differences)
    direction = "behind" if difference > 0 else "ahead of"
    text = f"the clock is {format_duration(abs(difference))} {direction} that of the upstreams"
    advice = "run timedatectl set-ntp true, or set the clock"
    if abs(difference) > _FAIL_CLOCK_SECONDS:
        return fail("clock", text, advice)
    if abs(difference) > _WARN_CLOCK_SECONDS:
        return warn("clock", text, advice)
    return ok("clock", "the clock agrees with that of the upstreams")


def check_quota(upstream: UpstreamConfig) -> Diagnosis:
    """Check how many pulls Docker Hub has left for us, by a HEAD, which it does not count."""
    try:
        quota = _fetch_quota(upstream)
    except (OSError, ValueError, UpstreamError) as error:
        return warn(
            "quota",
            f"the quota of {upstream.name} is unknown: {_reason(error)}",
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
        response = _probe(upstream, "GET", f"{upstream.url}/v2/")
    except socket.gaierror as error:
        advice = "check the network and the name servers in /etc/resolv.conf"
        return UpstreamCheck(problem("dns", f"{host} does not resolve: {error.strerror}", advice))
    except OSError as error:
        advice = "check for a firewall, a missing proxy (upstream.proxy), or an outage of the upstream"
        return UpstreamCheck(
            problem("upstream", f"{upstream.name} cannot be reached: {_reason(error)}", advice)
        )
    if response.status not in {200, 401}:
        text = f"{upstream.name} responds with {response.status}, a registry with 200 or 401"
        return UpstreamCheck(problem("upstream", text, f"check {upstream.url}, and for a proxy in between"))
    text = f"{upstream.name} responds in {response.seconds * 1000:.0f} ms"
    return UpstreamCheck(ok("upstream", text), _ahead_seconds(response))


def _ahead_seconds(response: ProbeResponse) -> float | None:
    try:
        return parsedate_to_datetime(response.headers.get("Date", "")).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


class _NoRedirects(HTTPRedirectHandler):
    """Returns redirects instead of following them."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _probe(upstream: UpstreamConfig, method: str, url: str, authorization: str = "") -> ProbeResponse:
    """Send one request and return the response, whatever its status.

    Raises:
        OSError: There was none; `socket.gaierror` if the host does not resolve.
    """
    headers = {"Authorization": authorization} if authorization else {}
    request = Request(url, method=method, headers=headers)  # noqa: S310 - the schemes are checked to be http(s)
    opener = _opener(upstream)
    began = time.monotonic()
    try:
        with opener.open(request, timeout=2 * upstream.connect_timeout) as response:
            return ProbeResponse(
                status=response.status,
                headers=response.headers,
                body=response.read(_MAX_BYTES),
                seconds=time.monotonic() - began,
            )
    except HTTPError as error:
        with error:
            return ProbeResponse(status=error.code, headers=error.headers, seconds=time.monotonic() - began)
    except URLError as error:
        raise (error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))) from None
    except HTTPException as error:
        raise OSError(f"invalid HTTP response: {type(error).__name__}") from None


def _fetch_quota(upstream: UpstreamConfig) -> Quota | None:
    """Return the quota of an upstream, by a HEAD; None if it reports none.

    Raises:
        OSError: It does not respond.
        UpstreamError: Its token service does not provide a token.
    """
    url = f"{upstream.url}/v2/{_QUOTA_REPOSITORY}/manifests/latest"
    response = _probe(upstream, "HEAD", url)
    challenge = choose(Challenge.parse_all(response.headers.get_all("WWW-Authenticate", [])))
    if response.status == 401 and challenge is not None and challenge.scheme == "bearer":
        response = _probe(upstream, "HEAD", url, f"Bearer {_token(upstream, challenge)}")
    headers = Headers()
    for name, value in response.headers.items():
        headers.addRawHeader(name, value)
    return Quota.parse(headers)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _token(upstream: UpstreamConfig, challenge: Challenge) -> str:
    """Return a token for the quota's repository, requested as the daemon would."""
    with_password = attrs.evolve(upstream, account=_accounts(upstream))
    request = TokenRequest.for_challenge(challenge, _QUOTA_REPOSITORY, with_password)
    response = _probe(upstream, "GET", request.url, basic(request.account) if request.account else "")
    if response.status != 200:
        raise UpstreamRefused(f"the token service responded with {response.status}")
    return UpstreamToken.parse(response.body, 0.0).value


def _accounts(upstream: UpstreamConfig) -> tuple[AccountConfig, ...]:
    """Return the accounts with their passwords; none if only the service can read these."""
    try:
        return tuple(
            attrs.evolve(account, password=read_password(account.password_file, os.environ))
            for account in upstream.account
        )
    except ValueError:
        return ()


def _opener(upstream: UpstreamConfig) -> OpenerDirector:
    trust = ssl.create_default_context()
    if upstream.ca is not None:
        trust.load_verify_locations(upstream.ca)
    proxy = upstream.proxy
    proxies = None if proxy is None else {"http": proxy, "https": proxy}
    return build_opener(ProxyHandler(proxies), HTTPSHandler(context=trust), _NoRedirects())
