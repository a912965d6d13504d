"""What an operator may decide: frozen values; their fields and defaults are those of the file.

docs/configuration.md says what each key is for.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import attrs

from mirrord.config import defaults, schema
from mirrord.config import types as words
from mirrord.config.access import AccessConfig
from mirrord.config.conflicts import conflicts
from mirrord.config.hosted import HostedConfig
from mirrord.config.types import (
    Bytes,
    Endpoint,
    FilePath,
    HostName,
    Interval,
    LogFormat,
    LogLevelName,
    NetworkWord,
    Origin,
    Pattern,
    PositiveBytes,
    Prefix,
    ProxyOrigin,
    Seconds,
    Timeout,
    UserName,
)
from mirrord.oci.names import DOCKER_HUB

T = TypeVar("T")


@attrs.frozen
class StoreConfig:
    """Where content is kept, and how much of it."""

    path: FilePath
    max_size: PositiveBytes | None = None
    min_free: Bytes = 1 << 30


@attrs.frozen
class CertificateConfig:
    """A certificate, with those between it and its root, and its private key; both are PEM files."""

    certificate: FilePath
    key: FilePath


@attrs.frozen
class ListenConfig:
    """One address at which clients are served.

    `certificates` are chosen by the name that a client asks for, `certificate` and `key` where none of
    them has it; a client shows a certificate of its own that `client_ca` signed, where that is given.
    """

    endpoint: Endpoint = "tcp:5000:interface=127.0.0.1"
    stall_timeout: Interval = 900.0
    certificate: FilePath | None = None
    key: FilePath | None = None
    certificates: tuple[CertificateConfig, ...] = ()
    client_ca: FilePath | None = None
    proxy_protocol: bool = False
    trusted_proxies: tuple[NetworkWord, ...] = ()
    upstream: HostName = DOCKER_HUB

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise schema.WrongKey("key" if self.key is None else "certificate", "missing; TLS needs both")
        if self.client_ca is not None and not self.pairs:
            raise schema.WrongKey("client_ca", "means nothing without a certificate and a key")
        if self.proxy_protocol and not self.trusted_proxies:
            raise schema.WrongKey("trusted_proxies", "missing; whose PROXY headers are to be believed?")

    @property
    def pairs(self) -> tuple[CertificateConfig, ...]:
        """All certificates with their keys, that of clients which name no host first; without any: no TLS."""
        first = (CertificateConfig(self.certificate, self.key),) if self.certificate and self.key else ()
        return first + self.certificates


@attrs.frozen
class Account:
    """Who we are at an upstream."""

    username: UserName
    password: str = attrs.field(default="", repr=False, metadata={schema.NOT_A_KEY: True})
    password_file: str = ""


@attrs.frozen
class UpstreamConfig:
    """A registry that we pull from.

    `url` and `realm` are origins: scheme and host, no slash at the end. `tag_ttl` is None where
    `[freshness]` decides; `realm` where only the upstream's own host may have our credentials.
    """

    name: HostName
    url: Origin
    prefix: Prefix | None = None
    allow: tuple[Pattern, ...] = ("*",)
    deny: tuple[Pattern, ...] = ()
    tag_ttl: Seconds | None = None
    realm: Origin | None = None
    ca: FilePath | None = None
    proxy: ProxyOrigin | None = None
    connect_timeout: Timeout = 5.0
    idle_timeout: Timeout = 30.0
    account: tuple[Account, ...] = ()

    def __attrs_post_init__(self) -> None:
        if len(self.account) > 1:
            raise schema.WrongKey("account", f"one account for now, not {len(self.account)}")
        if self.realm is not None and not self._may_have_account(urlsplit(self.realm)):
            raise schema.WrongKey(
                "realm", "it hears a password: https:// is needed, or the host of an http url"
            )

    def _may_have_account(self, realm: SplitResult) -> bool:
        own = urlsplit(self.url)
        return realm.scheme == "https" or (own.scheme == "http" and own.hostname == realm.hostname)


@attrs.frozen
class FreshnessConfig:
    """For how long a cached answer may be given without asking."""

    tag_ttl: Seconds = 300.0
    stale_if_error: Seconds = 7 * 86_400.0
    negative_ttl: Seconds = 10.0


@attrs.frozen
class GCConfig:
    """When content goes though there is room."""

    interval: Interval = 900.0
    unused_for: Interval = 30 * 86_400.0
    partials: Interval = 7 * 86_400.0


@attrs.frozen
class AdminConfig:
    """Where metrics and health are told."""

    endpoint: Endpoint = "tcp:5001:interface=127.0.0.1"


@attrs.frozen
class LogConfig:
    """How and from which level on it is told what happens; `access` is a file of one line a request."""

    format: LogFormat = "auto"
    level: LogLevelName = "info"
    access: FilePath | None = None


@attrs.frozen
class Config:
    """All of it."""

    store: StoreConfig
    listen: tuple[ListenConfig, ...] = (ListenConfig(),)
    upstream: tuple[UpstreamConfig, ...] = tuple(UpstreamConfig(**table) for table in defaults.UPSTREAMS)
    freshness: FreshnessConfig = FreshnessConfig()
    gc: GCConfig = GCConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    hosted: HostedConfig = attrs.field(factory=HostedConfig)
    access: AccessConfig | None = None
    drain_timeout: Seconds = 30.0


class ConfigError(Exception):
    """A configuration that cannot be used; `lines` say all that is wrong, each with the path of its key."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def parse_config(text: str, *, environment: Mapping[str, str], reads_passwords: bool = True) -> Config:
    """The configuration that a TOML document and the environment make; it reads the password files.

    Without `reads_passwords` it leaves them empty, for those who need none and may read none.

    Raises:
        ConfigError: All that is wrong with it.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"not TOML: {error}"]) from None
    document["store"] = defaults.store_table(document.get("store", {}), environment)
    tables, lines = defaults.upstream_tables(document.pop("upstream", []))
    lines += conflicts(document, tables)
    config, wrong = schema.read(Config, document)
    lines += wrong
    upstreams = []
    for path, table in tables.items():
        upstream, wrong = schema.read(UpstreamConfig, table, path)
        lines += wrong
        if upstream is not None:
            upstreams.append(
                _with_passwords(upstream, path, environment, lines) if reads_passwords else upstream
            )
    if config is None or lines:
        raise ConfigError(lines)
    return attrs.evolve(config, upstream=tuple(upstreams))


def override(
    config: Config,
    *,
    listen: Iterable[str] = (),
    upstream: str | None = None,
    store: str | None = None,
    admin: str | None = None,
) -> Config:
    """The configuration with what the command line says instead.

    `listen` are endpoints that replace all listeners. `upstream` is the URL of docker.io's stand-in;
    docker.io's own token service is then no longer trusted with the account.

    Raises:
        ConfigError: All that is wrong with the options.
    """
    lines: list[str] = []

    def read(option: str, grammar: Callable[[str], T], text: str) -> T | None:
        try:
            return grammar(text)
        except ValueError as error:
            lines.append(f"--{option}: {error}")
            return None

    listeners = tuple(
        ListenConfig(endpoint) for text in listen if (endpoint := read("listen", words.read_endpoint, text))
    )
    if listeners:
        config = attrs.evolve(config, listen=listeners)
    if store is not None and (path := read("store", words.read_path, store)):
        config = attrs.evolve(config, store=attrs.evolve(config.store, path=path))
    if admin is not None and (endpoint := read("admin", words.read_endpoint, admin)):
        config = attrs.evolve(config, admin=AdminConfig(endpoint))
    if upstream is not None and (stand_in := read("upstream", partial(_stand_in, config.upstream), upstream)):
        config = attrs.evolve(config, upstream=stand_in)
    if lines:
        raise ConfigError(lines)
    return config


def render(config: Config) -> str:
    """The effective configuration as TOML, without a secret: `parse_config` makes the same of it."""
    return schema.write(config)


def _with_passwords(
    upstream: UpstreamConfig, path: str, environment: Mapping[str, str], lines: list[str]
) -> UpstreamConfig:
    accounts = []
    for index, account in enumerate(upstream.account):
        try:
            password = words.read_password(account.password_file, environment)
        except ValueError as error:
            lines.append(f"{path}.account[{index}].password_file: {error}")
        else:
            accounts.append(attrs.evolve(account, password=password))
    return attrs.evolve(upstream, account=tuple(accounts))


def _stand_in(upstreams: Iterable[UpstreamConfig], text: str) -> tuple[UpstreamConfig, ...]:
    url = words.read_origin(text)
    return tuple(_moved(one, url) if one.name == DOCKER_HUB else one for one in upstreams)


def _moved(hub: UpstreamConfig, url: str) -> UpstreamConfig:
    realm = None if hub.realm == defaults.DOCKER_HUB_REALM else hub.realm
    return attrs.evolve(hub, url=url, realm=realm)
