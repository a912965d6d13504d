"""Types of the configuration file that TOML has no notation for: their grammar as strings.

A field declared as `tag_ttl: Seconds` is a float in the program and `"5m"` in the file. No error message
repeats a value that could contain a password.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from mirrord.config.addresses import EndpointDescription, check_socket_path
from mirrord.config.schema import StringFormat
from mirrord.oci.names import HOSTED, canonical_registry

_QUANTITY = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))? ?([A-Za-z]+)", re.ASCII)

_DURATIONS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
"""In milliseconds, longest first."""

_SIZES = {
    "TiB": 1 << 40,
    "TB": 10**12,
    "GiB": 1 << 30,
    "GB": 10**9,
    "MiB": 1 << 20,
    "MB": 10**6,
    "KiB": 1 << 10,
    "KB": 10**3,
    "B": 1,
}
"""In bytes, largest first."""

_MAX_DURATION = 36_500 * _DURATIONS["d"]
_MAX_SIZE = 1 << 60

_CREDENTIAL = "credential:"
_MAX_PASSWORD_LENGTH = 64 * 1024

_PORT = r"(?::[0-9]{1,5})?"
_HOST = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]){_PORT}", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_PATTERN = re.compile(r"[a-z0-9._/*?\[\]!-]+", re.ASCII)
_TAG_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]+", re.ASCII)


def parse_seconds(text: str) -> float:
    """Parse a duration, such as `500ms`, to seconds; the resolution is a millisecond."""
    return _parse_quantity(text, _DURATIONS, _MAX_DURATION) / 1000


def format_seconds(seconds: float) -> str:
    """Format a duration in the largest unit of which it is a whole number."""
    return _format_quantity(round(seconds * 1000), _DURATIONS, "")


def parse_bytes(text: str) -> int:
    """Parse a size, such as `512 KiB`, to bytes."""
    return _parse_quantity(text, _SIZES, _MAX_SIZE)


def parse_positive_bytes(text: str) -> int:
    """Parse a size greater than zero."""
    size = parse_bytes(text)
    if size == 0:
        raise ValueError("must be greater than zero")
    return size


def format_bytes(size: int) -> str:
    """Format a size in the largest unit of which it is a whole number."""
    return _format_quantity(size, _SIZES, " ")


def is_upstream_name(text: str) -> bool:
    """Return whether the text can be the name of an upstream."""
    return _HOST.fullmatch(text) is not None


def parse_upstream_name(text: str) -> str:
    """Parse the name of an upstream, as in `?ns=`: a host in lowercase, with an optional port."""
    if (canonical := canonical_registry(text)) != text:
        raise ValueError(f"is an alias of {canonical}; use that name")
    if text == HOSTED:
        raise ValueError("is reserved for hosted repositories")
    if not is_upstream_name(text):
        raise ValueError("must be a host name in lowercase, such as ghcr.io or registry.lan:5000")
    return text


def parse_origin(text: str) -> str:
    """Parse a URL of scheme and host only; a trailing slash is dropped."""
    return _parse_url(text, ("https", "http"), "configure an account with a password_file")


def parse_proxy_origin(text: str) -> str:
    """Parse the URL of a forward proxy that is reached over plain HTTP."""
    return _parse_url(text, ("http",), "set HTTPS_PROXY for a proxy that requires them")


def split_proxy_url(text: str) -> SplitResult:
    """Split the URL of a proxy in the environment, which may contain a password or lack `http://`.

    Raises:
        ValueError: It is not the URL of an HTTP proxy; the message contains no part of it.
    """
    problem = "must be the URL of an HTTP proxy, http://HOST:PORT"
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError:
        raise ValueError(problem) from None
    host = url.hostname or ""
    if url.scheme not in {"http", "https"} or not host or not host.isprintable() or " " in host or port == 0:
        raise ValueError(problem)
    return url


def parse_username(text: str) -> str:
    """Parse a user name; a colon separates it from the password in HTTP (RFC 7617, section 2)."""
    if not text or ":" in text or not text.isprintable():
        raise ValueError("must be a name without a colon")
    return text


def parse_prefix(text: str) -> str:
    """Parse a path component that can also be the first of a repository's name; `v2` is reserved."""
    if text == "v2" or _PREFIX.fullmatch(text) is None:
        raise ValueError("must be one path component of lowercase letters and digits, other than v2")
    return text


def parse_pattern(text: str) -> str:
    """Parse a shell pattern that can match a repository."""
    if _PATTERN.fullmatch(text) is None or text.startswith("/"):
        raise ValueError("no repository name can match this pattern")
    return text


def parse_rule_pattern(text: str) -> str:
    """Parse a shell pattern of an access rule, which may begin with the name of an upstream and a slash."""
    registry, slash, rest = text.partition("/")
    parse_pattern(rest if slash and is_upstream_name(registry) else text)
    return text


def is_rule_pattern(text: str) -> bool:
    """Return whether the text can be a pattern of an access rule."""
    try:
        parse_rule_pattern(text)
    except ValueError:
        return False
    return True


def parse_tag_pattern(text: str) -> str:
    """Parse a shell pattern that can match a tag."""
    if _TAG_PATTERN.fullmatch(text) is None:
        raise ValueError("no tag can match this pattern")
    return text


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse a network or a single address: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be a network or an address, such as 10.0.0.0/8") from None


def parse_path(text: str) -> Path:
    """Parse the path of a file or folder."""
    if not text or "\0" in text:
        raise ValueError("must be a path")
    return Path(text)


def parse_socket_path(text: str) -> Path:
    """Parse the path of a Unix socket."""
    path = parse_path(text)
    check_socket_path(path)
    return path


def parse_endpoint(text: str) -> str:
    """Parse a Twisted server endpoint; its arguments are checked as far as that needs no reactor."""
    description = EndpointDescription.parse(text)
    if not description.kind or not (description.positional or description.named):
        raise ValueError("must be a Twisted server endpoint, such as tcp:5000:interface=127.0.0.1")
    if description.kind in {"tcp", "tcp6", "ssl"}:
        _check_port(description.argument("port", 0))
        is_ssl = description.kind == "ssl"  # its second argument is a key file
        _check_interface(
            description.named.get("interface", "") if is_ssl else description.argument("interface", 1)
        )
    if description.socket_path is not None:
        check_socket_path(description.socket_path)
    return text


def is_credential(source: str) -> bool:
    """Return whether a password comes from a systemd credential, which only the service can read."""
    return source.startswith(_CREDENTIAL)


def read_password(source: str, environment: Mapping[str, str]) -> str:
    """Read a password, without its line end, from a file or from the systemd credential `credential:NAME`."""
    if not source:
        raise ValueError("missing")
    path = Path(source)
    if is_credential(source):
        name = source.removeprefix(_CREDENTIAL)
        folder = environment.get("CREDENTIALS_DIRECTORY", "")
        if not folder or not name or "/" in name:
            raise ValueError("systemd has passed no such credential")
        path = Path(folder, name)
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            password = file.read(_MAX_PASSWORD_LENGTH).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if not password:
        raise ValueError("the file is empty")
    return password


def _parse_url(text: str, schemes: tuple[str, ...], remedy: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.username is not None or url.password is not None:
        raise ValueError(f"must not contain a user or a password; {remedy}")
    if url.scheme not in schemes or not url.hostname:
        raise ValueError(
            f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        )
    if url.path not in {"", "/"} or "?" in text or "#" in text:
        raise ValueError("must be scheme and host only, without path, query and fragment")
    if _HOST.fullmatch(url.netloc.lower()) is None or port == 0:
        raise ValueError("has an invalid host or port")
    return f"{url.scheme}://{url.netloc.lower()}"


def _at_least(minimum: str, text: str) -> float:
    seconds = parse_seconds(text)
    if seconds < parse_seconds(minimum):
        raise ValueError(f"must be at least {minimum}")
    return seconds


def _one_of(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return text


def _check_port(text: str) -> None:
    if not (text.isascii() and text.isdigit()) or int(text[:6]) > 65_535:
        raise ValueError("its port must be a number from 0 to 65535")


def _check_interface(text: str) -> None:
    try:
        if text:
            ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise ValueError("its interface must be an IP address, such as 127.0.0.1") from None


def _parse_quantity(text: str, units: dict[str, int], limit: int) -> int:
    """Parse a quantity to the smallest of `units`."""
    match = _QUANTITY.fullmatch(text)
    names = ", ".join(reversed(units))
    if match is None or match[3] not in units:
        raise ValueError(f"must be a number with one of the units {names}")
    whole, fraction, unit = match.groups(default="")
    # Integer arithmetic: a float loses the last bytes of a petabyte.
    quantity = int(whole + fraction) * units[unit] // int("1" + "0" * len(fraction))
    if quantity > limit:
        raise ValueError("is too large")
    return quantity


def _format_quantity(quantity: int, units: dict[str, int], gap: str) -> str:
    unit = next(name for name, scale in units.items() if quantity % scale == 0 and (quantity or scale == 1))
    return f"{quantity // units[unit]}{gap}{unit}"


Seconds = Annotated[float, StringFormat(parse_seconds, format_seconds, '"5m"')]
Timeout = Annotated[float, StringFormat(partial(_at_least, "100ms"), format_seconds, '"5m"')]
"""A network timeout; with less than 100 ms ordinary responses would time out."""

Interval = Annotated[float, StringFormat(partial(_at_least, "1s"), format_seconds, '"5m"')]
"""A duration that is checked once a second or less often."""

Bytes = Annotated[int, StringFormat(parse_bytes, format_bytes, '"50 GiB"')]
PositiveBytes = Annotated[int, StringFormat(parse_positive_bytes, format_bytes, '"50 GiB"')]
FilePath = Annotated[Path, StringFormat(parse_path)]
SocketPath = Annotated[Path, StringFormat(parse_socket_path)]
Endpoint = Annotated[str, StringFormat(parse_endpoint)]
UpstreamName = Annotated[str, StringFormat(parse_upstream_name)]
Origin = Annotated[str, StringFormat(parse_origin)]
ProxyOrigin = Annotated[str, StringFormat(parse_proxy_origin)]
Username = Annotated[str, StringFormat(parse_username)]
Prefix = Annotated[str, StringFormat(parse_prefix)]
Pattern = Annotated[str, StringFormat(parse_pattern)]
RulePatternText = Annotated[str, StringFormat(parse_rule_pattern)]
TagPattern = Annotated[str, StringFormat(parse_tag_pattern)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, StringFormat(parse_network)]
LogFormat = Annotated[str, StringFormat(partial(_one_of, ("auto", "journal", "text", "json")))]
"""`auto` is the journal's where standard error is connected to the journal."""

LogLevelName = Annotated[str, StringFormat(partial(_one_of, ("debug", "info", "warn", "error")))]
