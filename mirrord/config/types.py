"""The words of the configuration file: what stands in a string, and how it is read.

Each is a type that a field of `config.py` has: `tag_ttl: Seconds` is a float to the program and
`"5m"` to the operator. No message repeats what might hold a password.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from mirrord.config.endpoints import EndpointDescription
from mirrord.config.schema import Word
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

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_DURATION = 36_500 * _DURATIONS["d"]
_MAX_SIZE = 1 << 60

_PORT = r"(?::[0-9]{1,5})?"
_NAME = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]){_PORT}", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_PATTERN = re.compile(r"[a-z0-9._/*?\[\]!-]+", re.ASCII)


def read_seconds(text: str) -> float:
    """A duration in seconds, such as 0.5 for `500ms`; milliseconds are the finest."""
    return _read_quantity(text, _DURATIONS, _MAX_DURATION, "a duration") / 1000


def read_timeout(text: str) -> float:
    """How long a network is waited for: less than 100 ms would take every second answer for a break."""
    return _at_least("100ms", text)


def read_interval(text: str) -> float:
    """A duration that is measured once a second, or more rarely."""
    return _at_least("1s", text)


def write_seconds(seconds: float) -> str:
    """The duration in the largest unit that it is a whole number of."""
    return _write_quantity(round(seconds * 1000), _DURATIONS, "")


def read_bytes(text: str) -> int:
    """A size in bytes, such as 524288 for `512 KiB`."""
    return _read_quantity(text, _SIZES, _MAX_SIZE, "a size")


def read_positive_bytes(text: str) -> int:
    """A size that is not nothing."""
    size = read_bytes(text)
    if size == 0:
        raise ValueError("more than nothing is needed")
    return size


def write_bytes(size: int) -> str:
    """The size in the largest unit that it is a whole number of."""
    return _write_quantity(size, _SIZES, " ")


def is_name(text: str) -> bool:
    """Whether this could be the name of an upstream."""
    return _NAME.fullmatch(text) is not None


def read_name(text: str) -> str:
    """The name of an upstream, as clients say it: a host, in lowercase, with a port if it has one."""
    if (canonical := canonical_registry(text)) != text:
        raise ValueError(f"another name of {canonical}; write that")
    if text == HOSTED:
        raise ValueError("this is what stands for no upstream: what is pushed to us")
    if not is_name(text):
        raise ValueError("a host name in lowercase is needed, such as ghcr.io or registry.lan:5000")
    return text


def read_origin(text: str) -> str:
    """A URL that is scheme and host only; a slash at its end is dropped."""
    return _read_origin(text, ("https", "http"), "write an account with a password_file")


def read_proxy(text: str) -> str:
    """The URL of a forward proxy, to which we speak plain HTTP."""
    return _read_origin(text, ("http",), "a proxy that wants them is named by HTTPS_PROXY")


def split_proxy(text: str) -> SplitResult:
    """The parts of a proxy's URL in the environment; a password may be in it, and `http://` be left out.

    Raises:
        ValueError: It is not the URL of an HTTP proxy; the message holds no part of it.
    """
    problem = "not the URL of an HTTP proxy, use http://HOST:PORT"
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError:
        raise ValueError(problem) from None
    host = url.hostname or ""
    if url.scheme not in {"http", "https"} or not host or not host.isprintable() or " " in host or port == 0:
        raise ValueError(problem)
    return url


def read_username(text: str) -> str:
    """Who an account is; HTTP parts it from the password by a colon (RFC 7617, section 2)."""
    if not text or ":" in text or not text.isprintable():
        raise ValueError("a name without a colon is needed")
    return text


def read_prefix(text: str) -> str:
    """One component of a path that can also be the first of a repository's name, and is not `v2`."""
    if text == "v2" or _PREFIX.fullmatch(text) is None:
        raise ValueError("one path component of lowercase letters and digits is needed, other than v2")
    return text


def read_pattern(text: str) -> str:
    """A shell pattern that some repository can match."""
    if _PATTERN.fullmatch(text) is None or text.startswith("/"):
        raise ValueError("no repository's name can match this")
    return text


def read_network(text: str) -> Network:
    """A network, or the one address that stands for itself: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("a network or an address is needed, such as 10.0.0.0/8") from None


def read_log_format(text: str) -> str:
    """How a line of the log is written; `auto` is the journal's way where standard error is the journal."""
    return _one_of(text, ("auto", "journal", "text", "json"))


def read_log_level(text: str) -> str:
    """The least that is logged."""
    return _one_of(text, ("debug", "info", "warn", "error"))


def read_path(text: str) -> Path:
    """A file or folder."""
    if not text or "\0" in text:
        raise ValueError("a path is needed")
    return Path(text)


def read_endpoint(text: str) -> str:
    """A Twisted server endpoint. What is in it is checked here as far as that needs no reactor."""
    description = EndpointDescription.parse(text)
    if not description.kind or not (description.positional or description.named):
        raise ValueError("a Twisted server endpoint is needed, such as tcp:5000:interface=127.0.0.1")
    if description.kind in {"tcp", "tcp6", "ssl"}:
        _check_port(description.argument("port", 0))
        is_ssl = description.kind == "ssl"  # whose second argument is a key file
        _check_interface(
            description.named.get("interface", "") if is_ssl else description.argument("interface", 1)
        )
    return text


_MAX_PASSWORD_LENGTH = 64 * 1024


def read_password(source: str, environment: Mapping[str, str]) -> str:
    """The password in a file, or in the systemd credential that `credential:NAME` names, but its line end."""
    if not source:
        raise ValueError("missing")
    scheme, _, name = source.partition(":")
    path = Path(source)
    if scheme == "credential":
        folder = environment.get("CREDENTIALS_DIRECTORY", "")
        if not folder or not name or "/" in name:
            raise ValueError("no such credential: systemd has given us none")
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


def _read_origin(text: str, schemes: tuple[str, ...], instead: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("not a URL") from None
    if url.username is not None or url.password is not None:
        raise ValueError(f"no user or password goes into a URL; {instead}")
    if url.scheme not in schemes or not url.hostname:
        raise ValueError(
            f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)} is needed"
        )
    if url.path not in {"", "/"} or "?" in text or "#" in text:
        raise ValueError("scheme and host only, without path, query and fragment")
    if _NAME.fullmatch(url.netloc.lower()) is None or port == 0:
        raise ValueError("its host cannot be read")
    return f"{url.scheme}://{url.netloc.lower()}"


def _at_least(least: str, text: str) -> float:
    seconds = read_seconds(text)
    if seconds < read_seconds(least):
        raise ValueError(f"at least {least} is needed")
    return seconds


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text not in words:
        raise ValueError(f"one of {', '.join(words)} is needed")
    return text


def _check_port(text: str) -> None:
    if not (text.isascii() and text.isdigit()) or not 0 <= int(text[:6]) <= 65_535:
        raise ValueError("its port is a number from 0 to 65535")


def _check_interface(text: str) -> None:
    try:
        if text:
            ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise ValueError("its interface is an IP address, such as 127.0.0.1") from None


def _read_quantity(text: str, units: dict[str, int], limit: int, what: str) -> int:
    """The quantity in the smallest of `units`."""
    match = _QUANTITY.fullmatch(text)
    names = ", ".join(reversed(units))
    if match is None or match[3] not in units:
        raise ValueError(f"{what} is a number with one of the units {names}")
    whole, fraction, unit = match.groups(default="")
    # In whole numbers: a float forgets the last bytes of a petabyte.
    quantity = int(whole + fraction) * units[unit] // int("1" + "0" * len(fraction))
    if quantity > limit:
        raise ValueError("too large to be meant")
    return quantity


def _write_quantity(quantity: int, units: dict[str, int], gap: str) -> str:
    unit = next(name for name, scale in units.items() if quantity % scale == 0 and (quantity or scale == 1))
    return f"{quantity // units[unit]}{gap}{unit}"


Seconds = Annotated[float, Word(read_seconds, write_seconds, '"5m"')]
Timeout = Annotated[float, Word(read_timeout, write_seconds, '"5m"')]
Interval = Annotated[float, Word(read_interval, write_seconds, '"5m"')]
Bytes = Annotated[int, Word(read_bytes, write_bytes, '"50 GiB"')]
PositiveBytes = Annotated[int, Word(read_positive_bytes, write_bytes, '"50 GiB"')]
FilePath = Annotated[Path, Word(read_path)]
Endpoint = Annotated[str, Word(read_endpoint)]
HostName = Annotated[str, Word(read_name)]
Origin = Annotated[str, Word(read_origin)]
ProxyOrigin = Annotated[str, Word(read_proxy)]
UserName = Annotated[str, Word(read_username)]
Prefix = Annotated[str, Word(read_prefix)]
Pattern = Annotated[str, Word(read_pattern)]
NetworkWord = Annotated[Network, Word(read_network)]
LogFormat = Annotated[str, Word(read_log_format)]
LogLevelName = Annotated[str, Word(read_log_level)]
