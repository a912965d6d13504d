"""Probes of an upstream: single requests, with the proxy, trust and account that the daemon would use."""

import os
import ssl
import time
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
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

from mirrord.config.config import AccountConfig, UpstreamConfig
from mirrord.config.types import read_password
from mirrord.oci.errors import UpstreamRefused
from mirrord.oci.names import RepositoryName
from mirrord.upstream.challenge import Challenge, choose
from mirrord.upstream.quota import Quota
from mirrord.upstream.tokens import TokenRequest, UpstreamToken, basic

_QUOTA_REPOSITORY = RepositoryName("ratelimitpreview/test")
"""Docker's repository for this purpose (docs.docker.com, "Usage and limits")."""

_MAX_BYTES = 64 * 1024


@attrs.frozen(kw_only=True)
class ProbeResponse:
    """A response and how long it took."""

    status: int
    headers: Message
    body: bytes = attrs.field(repr=False)
    seconds: float


class _NoRedirects(HTTPRedirectHandler):
    """Returns redirects instead of following them."""

    def redirect_request(self, *_: Any) -> None:
        return None


def probe(upstream: UpstreamConfig, method: str, url: str, authorization: str = "") -> ProbeResponse:
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
            return ProbeResponse(
                status=error.code, headers=error.headers, body=b"", seconds=time.monotonic() - began
            )
    except URLError as error:
        raise (error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))) from None
    except HTTPException as error:
        raise OSError(f"invalid HTTP response: {type(error).__name__}") from None


def probe_quota(upstream: UpstreamConfig) -> Quota | None:
    """Return the quota of an upstream, by a HEAD; None if it reports none.

    Raises:
        OSError: It does not respond.
        UpstreamError: Its token service does not provide a token.
    """
    url = f"{upstream.url}/v2/{_QUOTA_REPOSITORY}/manifests/latest"
    response = probe(upstream, "HEAD", url)
    challenge = choose(Challenge.parse_all(response.headers.get_all("WWW-Authenticate", [])))
    if response.status == 401 and challenge is not None and challenge.scheme == "bearer":
        response = probe(upstream, "HEAD", url, f"Bearer {_token(upstream, challenge)}")
    headers = Headers()
    for name, value in response.headers.items():
        headers.addRawHeader(name, value)
    return Quota.parse(headers)


def reason_of(error: Exception) -> str:
    """Return the message of an error without its number."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _token(upstream: UpstreamConfig, challenge: Challenge) -> str:
    """Return a token for the quota's repository, requested as the daemon would.

    Raises:
        OSError: The token service does not respond.
        UpstreamError: It has no URL, or does not respond with a token.
    """
    with_password = attrs.evolve(upstream, account=_accounts(upstream))
    request = TokenRequest.for_challenge(challenge, _QUOTA_REPOSITORY, with_password)
    response = probe(upstream, "GET", request.url, basic(request.account) if request.account else "")
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
