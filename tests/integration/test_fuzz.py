"""Ten thousand malformed requests; each is rejected with an error of the specification."""

import os
import re

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.case import MIB, MirrorCase
from tests.integration.client import pull
from tests.integration.raw import RawResponse, exchange

_REQUESTS = int(os.environ.get("MIRRORD_FUZZ", "10000"))
_BATCH = 20
_DIGEST = "sha256:" + "a" * 64

_ODD = ["x" * 300, "a" * 2000, "é", "%00", "%ff", "?", "#", " "]


def _words(text: str, *more: str) -> st.SearchStrategy[str]:
    return st.sampled_from([*text.split(), *more])


_METHODS = st.sampled_from(b"GET GET GET GET GET HEAD HEAD PUT POST PATCH DELETE OPTIONS TRACE".split())
_SEGMENTS = _words(
    f"""
    v2 library app manifests blobs uploads tags list referrers _catalog latest dockerhub ghcr quay
    . .. %2e%2e %2F % %zz a%2fb A - _ : @ {_DIGEST} sha256:1 sha512:{"b" * 128} md5:x sha256%3A{"a" * 64}
    """,
    "",
    *_ODD,
)
_REAL = _words(
    f"""
    /v2/ /v2/library/app/manifests/latest /v2/library/app/tags/list /v2/_catalog
    /v2/library/app/blobs/{_DIGEST} /v2/library/app/referrers/{_DIGEST} /v2/library/app/blobs/uploads/
    /dockerhub/v2/library/app/manifests/latest /v2/dockerhub/library/app/manifests/latest
    """
)
_TERMS = _words(
    f"""
    ns=docker.io ns= ns=unknown.example ns=docker.io&ns=docker.io ns=%00 n=0 n=-1 n=99999999999 n=x n=5
    last=zzz last=%ff digest={_DIGEST} artifactType=a%0d%0ab && == %
    """,
    *_ODD,
)
_FIELDS = st.sampled_from(
    [
        *(
            f"Range: {value}"
            for value in ("bytes=0-99", "bytes=-1", "bytes=99-0", "bytes=a-b", "chars=0-9", "bytes=", "=")
        ),
        *("Range: bytes=" + "0-1," * 3000, "Range: bytes=0-" + "9" * 400, "If-Range: x"),
        *('If-None-Match: W/"x", *', "If-None-Match: *", "Accept: text/html", "Accept-Encoding: gzip"),
        *("Authorization: Basic eDp5", "Authorization: Bearer " + "t" * 9000, "Cookie: a=b"),
        *(f"Content-Length: {value}" for value in ("5", "-5", "5, 6", "9" * 20, "x", "")),
        *(f"Transfer-Encoding: {value}" for value in ("chunked", "gzip, chunked", "identity", "")),
        *(
            "Expect: 100-continue",
            "Expect: nonsense",
            "Connection: close",
            "Connection: upgrade",
            "Upgrade: h2c",
        ),
        *(
            "Host: a b",
            "Host:",
            "X: " + "y" * 20000,
            " folded",
            ": no name",
            "no colon",
            "X:\x00",
            "Date: never",
        ),
        *("X-Forwarded-For: 1.2.3.4", "Forwarded: for=x"),
    ]
)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """Build a request from valid and invalid parts, sometimes with bytes changed at random."""
    invented = st.lists(_SEGMENTS, max_size=7).map(lambda parts: "/" + "/".join(parts))
    target = draw(st.one_of(_REAL, invented, invented.map(lambda path: "/v2" + path)))
    terms = draw(st.lists(_TERMS, max_size=2))
    if terms:
        target += "?" + "&".join(terms)
    fields = ["Host: mirror.test", *draw(st.lists(_FIELDS, max_size=3))]
    version = draw(st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP/9", ""]))
    method = draw(st.one_of(_METHODS, _METHODS, st.binary(min_size=1, max_size=8)))
    raw = bytearray(method + "\r\n".join([f" {target} {version}", *fields]).encode())
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)):
        raw[place % len(raw)] = byte
    return bytes(raw) + b"\r\n\r\n" + draw(st.sampled_from([b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"]))


def _is_welcome_page(response: RawResponse) -> bool:
    """Return whether the response is the page for browsers at `/`, which is no error."""
    return response.status == 200 and re.match(rb"(GET|HEAD) /(\?\S*)? ", response.request) is not None


class FuzzTests(MirrorCase):
    def test_malformed_requests(self) -> None:
        """No malformed request is answered by 5xx or HTML, logs a traceback or ends the daemon."""
        image = self.registry.put_image(100_000)
        daemon = self.start_daemon(tag_ttl="1h")

        @settings(
            max_examples=_REQUESTS // _BATCH,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(_requests(), min_size=_BATCH, max_size=_BATCH))
        def send(requests: list[bytes]) -> None:
            for response in exchange(daemon.port, requests):
                self._assert_valid(response)

        send()
        self.assertTrue(daemon.is_alive)
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertLess(daemon.pss(), 72 * MIB)

    def _assert_valid(self, response: RawResponse) -> None:
        if response.status is not None:
            self.assertLess(response.status, 500, response)
        if not _is_welcome_page(response):
            self.assertNotIn(b"text/html", response.head.lower(), response)
            self.assertNotIn(b"<html", response.body.lower(), response)
        if response.status is not None and response.status >= 400 and response.body:
            self.assertIn(b'"errors"', response.body, response)
