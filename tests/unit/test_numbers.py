"""Numbers from the network: int() refuses thousands of digits, and accepts some that are not ASCII."""

import contextlib
import json
from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mirrord.api.ranges import select
from mirrord.http.proxy_protocol import InvalidProxyHeader, client_address
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.manifests import OCI_INDEX, Manifest
from mirrord.oci.platforms import Platform, platform_manifests, select_platform
from mirrord.oci.routes import ChunkRange, parse
from mirrord.upstream.blobs import ContentRange
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.quota import Quota
from mirrord.upstream.retry import parse_retry_after
from mirrord.upstream.tokens import UpstreamToken

NUMBERS = st.one_of(
    st.integers().map(str),
    st.text("0123456789", min_size=1, max_size=40),
    st.sampled_from(
        ["9" * 4400, "0" * 4400 + "1", "\u0661\u0662", "\u00b2", "1_0", "+1", " 1", "1e9", "inf", ""]
    ),
)


def read_index(number: str, size: str = "1") -> object:
    """Select from an index whose only platform has this variant, and whose only manifest has this size."""
    platform = {"os": "linux", "architecture": "arm", "variant": f"v{number}"}
    entry = {"mediaType": OCI_INDEX, "digest": str(Digest.of(b"")), "size": 1, "platform": platform}
    body = json.dumps({"mediaType": OCI_INDEX, "manifests": [entry]}).replace('"size": 1', f'"size": {size}')
    manifest = Manifest.parse(body.encode(), OCI_INDEX)
    return select_platform(platform_manifests(manifest), Platform("linux", "arm"))


PARSERS: dict[str, Callable[[str], object]] = {
    "Range": lambda number: select(f"bytes={number}-{number},-{number}", 1000),
    "Content-Range of an upload": lambda number: ChunkRange.parse(f"{number}-{number}/{number}"),
    "Content-Range of an upstream": lambda number: ContentRange.parse(f"bytes {number}-{number}/{number}"),
    "n": lambda number: parse(f"/v2/_catalog?n={number}".encode()),
    "Retry-After": lambda number: parse_retry_after(number, None),
    "Retry-After, a date": lambda number: parse_retry_after(
        f"Fri, {number} Jan {number} {number}:00:00 +{number}", "Fri, 01 Jan 2021 00:00:00 GMT"
    ),
    "RateLimit": lambda number: Quota.parse(Headers({"RateLimit-Limit": [f"{number};w={number}"]})),
    "port": lambda number: WebOrigin.of(f"https://registry.example:{number}/"),
    "expires_in": lambda number: UpstreamToken.parse(
        f'{{"token": "t", "expires_in": {number}}}'.encode(), 0.0
    ),
    "variant": read_index,
    "size": lambda number: read_index("7", number),
    "PROXY": lambda number: client_address(f"PROXY TCP4 192.0.2.1 192.0.2.2 {number} {number}\r\n".encode()),
}


class NumberTests(SynchronousTestCase):
    @given(NUMBERS)
    @example("9" * 4400)
    def test_any(self, number: str) -> None:
        """Whatever stands for a number is parsed, ignored, or rejected by an error of ours."""
        for read in PARSERS.values():
            with contextlib.suppress(RegistryError, InvalidProxyHeader):
                read(number)
