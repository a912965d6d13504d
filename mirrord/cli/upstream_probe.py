"""Asking an upstream one thing, as the daemon would: its proxy, its trust, its account, no redirects."""

import base64
import json
import os
import ssl
import time
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
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

from mirrord.config.config import Account, UpstreamConfig
from mirrord.config.types import read_password
from mirrord.upstream.challenge import Challenge, choose
from mirrord.upstream.quota import Quota

_QUOTA_REPOSITORY = "ratelimitpreview/test"
"""Docker's own, for this question (docs.docker.com, "Usage and limits")."""

_MAX_BYTES = 64 * 1024


@attrs.frozen
class ProbeResponse:
    """An answer, and how long it took."""

    status: int
    headers: Message
    body: bytes = attrs.field(repr=False)
    seconds: float


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an answer."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(upstream: UpstreamConfig, method: str, url: str, authorization: str = "") -> ProbeResponse:
    """Ask once. Any status is an answer.

    Raises:
        OSError: None came; `socket.gaierror` where the host has no address.
    """
    headers = {"Authorization": authorization} if authorization else {}
    request = Request(url, method=method, headers=headers)  # noqa: S310 - of a configuration that says http(s)
    opener = _opener(upstream)
    began = time.monotonic()
    try:
        with opener.open(request, timeout=2 * upstream.connect_timeout) as answer:
            return ProbeResponse(
                answer.status, answer.headers, answer.read(_MAX_BYTES), time.monotonic() - began
            )
    except HTTPError as error:
        with error:
            return ProbeResponse(error.code, error.headers, b"", time.monotonic() - began)
    except URLError as error:
        raise (error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))) from None
    except HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__}") from None


def ask_quota(upstream: UpstreamConfig) -> Quota | None:
    """What an upstream says of its pull limit, by a HEAD; None if it says nothing.

    Raises:
        OSError: It does not answer.
        ValueError: Its token service does not answer as one.
    """
    url = f"{upstream.url}/v2/{_QUOTA_REPOSITORY}/manifests/latest"
    answer = ask(upstream, "HEAD", url)
    challenge = choose(Challenge.parse_all(answer.headers.get_all("WWW-Authenticate", [])))
    if answer.status == 401 and challenge is not None and challenge.scheme == "bearer":
        answer = ask(upstream, "HEAD", url, f"Bearer {_token(upstream, challenge)}")
    told = Headers()
    for name, value in answer.headers.items():
        told.addRawHeader(name, value)
    return Quota.parse(told)


def reason_of(error: Exception) -> str:
    """Why it failed, without the number."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _token(upstream: UpstreamConfig, challenge: Challenge) -> str:
    realm = challenge.parameters.get("realm", "")
    service = challenge.parameters.get("service", "")
    query = urlencode({"service": service, "scope": f"repository:{_QUOTA_REPOSITORY}:pull"})
    if urlsplit(realm).scheme not in {"http", "https"}:
        raise ValueError("its token service has no address")
    account = upstream.account[0] if upstream.account and _may_know(upstream, realm) else None
    answer = ask(upstream, "GET", f"{realm}?{query}", _basic(account) if account else "")
    if answer.status != 200:
        raise ValueError(f"its token service answers {answer.status}")
    document = json.loads(answer.body)
    token = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isprintable():
        raise ValueError("its token service gives no token")
    return token


def _may_know(upstream: UpstreamConfig, realm: str) -> bool:
    """Whether a token service may hear our password: the configured one, or one on the upstream's host."""
    theirs, ours = urlsplit(realm), urlsplit(upstream.url)
    if f"{theirs.scheme}://{theirs.netloc}" == upstream.realm:
        return True
    is_safe = theirs.scheme == "https" or ours.scheme == "http"
    return is_safe and theirs.hostname == ours.hostname


def _basic(account: Account) -> str:
    """The account's credentials; none where its password is for the service alone."""
    try:
        password = read_password(account.password_file, os.environ)
    except ValueError:
        return ""
    return "Basic " + base64.b64encode(f"{account.username}:{password}".encode()).decode("ascii")


def _opener(upstream: UpstreamConfig) -> OpenerDirector:
    trust = ssl.create_default_context()
    if upstream.ca is not None:
        trust.load_verify_locations(upstream.ca)
    proxy = upstream.proxy
    proxies = None if proxy is None else {"http": proxy, "https": proxy}
    return build_opener(ProxyHandler(proxies), HTTPSHandler(context=trust), _NoRedirects())
