"""The configuration: frozen values whose fields and defaults are the keys and defaults of the file.

docs/configuration.md describes every key.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from mirrord.config import defaults, schema
from mirrord.config.access import AccessConfig
from mirrord.config.addresses import EndpointDescription, check_socket_path
from mirrord.config.conflicts import conflicts
from mirrord.config.folders import command_sockets
from mirrord.config.types import (
    Bytes,
    Endpoint,
    FilePath,
    Interval,
    LogFormat,
    LogLevelName,
    Network,
    Origin,
    Pattern,
    PositiveBytes,
    Prefix,
    ProxyOrigin,
    Seconds,
    SocketPath,
    TagPattern,
    Timeout,
    UpstreamName,
    Username,
    parse_endpoint,
    parse_origin,
    parse_path,
    read_password,
)
from mirrord.oci.names import DOCKER_HUB


@attrs.frozen
class StoreConfig:
    """The folder of the store, and the limits of its size."""

    path: FilePath
    max_size: PositiveBytes | None = None
    min_free: Bytes = 1 << 30


@attrs.frozen
class CertificateConfig:
    """A certificate chain and its private key; both are PEM files."""

    certificate: FilePath
    key: FilePath


@attrs.frozen(kw_only=True)
class ListenConfig:
    """One endpoint at which clients are served.

    Among `certificates` the one for the requested host is served, `certificate` and `key` where there is none
    for it; with `client_ca` clients must present a certificate that it signed.
    """

    endpoint: Endpoint = "tcp:5000:interface=127.0.0.1"
    stall_timeout: Interval = 900.0
    certificate: FilePath | None = None
    key: FilePath | None = None
    certificates: tuple[CertificateConfig, ...] = ()
    client_ca: FilePath | None = None
    proxy_protocol: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    upstream: UpstreamName = DOCKER_HUB

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise schema.InvalidKey("key" if self.key is None else "certificate", "missing; TLS needs both")
        if self.client_ca is not None and not self.pairs:
            raise schema.InvalidKey("client_ca", "has no effect without a certificate and a key")
        if self.proxy_protocol and not self.trusted_proxies:
            raise schema.InvalidKey("trusted_proxies", "missing; needed to accept PROXY headers")

    @property
    def pairs(self) -> tuple[CertificateConfig, ...]:
        """All certificates with their keys, the default one first; without any, the listener has no TLS."""
        first = (CertificateConfig(self.certificate, self.key),) if self.certificate and self.key else ()
        return first + self.certificates


@attrs.frozen
class AccountConfig:
    """An account at an upstream."""

    username: Username
    password: str = attrs.field(default="", repr=False, metadata={schema.NOT_A_KEY: True})
    password_file: str = ""


@attrs.frozen(kw_only=True)
class UpstreamConfig:
    """A registry that we pull from.

    `url` and `realm` are origins: scheme and host, without a trailing slash. Where `tag_ttl` is None that of
    `[freshness]` applies; where `realm` is None only the upstream's own host may receive our credentials.
    """

    name: UpstreamName
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
    account: tuple[AccountConfig, ...] = ()

    def __attrs_post_init__(self) -> None:
        if len(self.account) > 1:
            raise schema.InvalidKey("account", f"only one account is supported, not {len(self.account)}")
        if self.realm is not None and not self.may_receive_account(self.realm):
            raise schema.InvalidKey(
                "realm", "would receive a password: must be https://, or the host of an http:// url"
            )

    def may_receive_account(self, realm: str) -> bool:
        """Return whether the token service at this URL may receive the account.

        A realm is a URL that the upstream names, and an attacker who can respond in its place can name any
        (GHSA-3p65-76g6-3w7r). So the account is sent to the upstream's own host and to the host of the
        configured realm, over TLS; without TLS to the upstream's own host only, and only if the upstream's
        own URL has none either.
        """
        service, home = urlsplit(realm), urlsplit(self.url)
        is_own_host = service.hostname == home.hostname
        if service.scheme != "https":
            return service.scheme == home.scheme == "http" and is_own_host
        return is_own_host or (self.realm is not None and service.hostname == urlsplit(self.realm).hostname)


@attrs.frozen
class FreshnessConfig:
    """The times for which cached responses are served."""

    tag_ttl: Seconds = 300.0
    stale_if_error: Seconds = 7 * 86_400.0
    negative_ttl: Seconds = 10.0


@attrs.frozen
class GCConfig:
    """The interval of sweeps, and the ages at which content is evicted even if there is room."""

    interval: Interval = 900.0
    unused_for: Interval = 30 * 86_400.0
    partials: Interval = 7 * 86_400.0


@attrs.frozen(kw_only=True)
class RetentionConfig:
    """A rule that deletes old tags and manifests of some hosted repositories; None disables a criterion.

    `newest` and `older_than` apply to the tags that match `tags`, `untagged_for` to manifests.
    """

    repositories: tuple[Pattern, ...] = ("*",)
    untagged_for: Interval | None = None
    newest: int | None = None
    tags: TagPattern = "*"
    older_than: Interval | None = None

    def __attrs_post_init__(self) -> None:
        if self.untagged_for is None and self.newest is None and self.older_than is None:
            raise schema.InvalidKey("untagged_for", "missing; set this, newest or older_than")


@attrs.frozen(kw_only=True)
class HostedConfig:
    """The repositories that clients push to, as patterns; without any, every repository is mirrored.

    `path` is the folder of their content, by default `hosted` in the store.
    `push_from_loopback` lets clients on this host push and delete where there is no `[access]`;
    `grace` protects blobs that no manifest references yet; `upload_timeout` limits a silent client.
    """

    enabled: bool = True
    repositories: tuple[Pattern, ...] = ()
    path: FilePath | None = None
    push_from_loopback: bool = False
    delete: bool = True
    grace: Seconds = 3600.0
    max_upload_size: PositiveBytes | None = None
    upload_timeout: Timeout = 60.0
    keep: tuple[RetentionConfig, ...] = ()


@attrs.frozen
class AdminConfig:
    """The endpoint of metrics, health and status, and the path of the Unix socket for commands."""

    endpoint: Endpoint = "tcp:5001:interface=127.0.0.1"
    socket: SocketPath | None = None

    def command_socket(self, environment: Mapping[str, str], store: Path) -> Path:
        """Return the path of the socket for commands; the endpoint's own, where that is a Unix socket.

        Raises:
            ValueError: The default path in this environment, for this folder of the store, is too long.
        """
        path = self.socket or EndpointDescription.parse(self.endpoint).socket_path
        if path is None:
            path = next(command_sockets(environment, store))
            check_socket_path(path)
        return path


@attrs.frozen
class LogConfig:
    """The format and the lowest level of the log; `access` is the file of the access log."""

    format: LogFormat = "auto"
    level: LogLevelName = "info"
    access: FilePath | None = None


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration."""

    store: StoreConfig
    listen: tuple[ListenConfig, ...] = (ListenConfig(),)
    upstream: tuple[UpstreamConfig, ...] = tuple(UpstreamConfig(**table) for table in defaults.UPSTREAMS)
    freshness: FreshnessConfig = FreshnessConfig()
    gc: GCConfig = GCConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    hosted: HostedConfig = HostedConfig()
    access: AccessConfig | None = None
    drain_timeout: Seconds = 30.0

    @property
    def hosted_folder(self) -> Path:
        """The folder of hosted repositories."""
        return self.hosted.path or self.store.path / "hosted"


class ConfigError(Exception):
    """An invalid configuration; `lines` are all its errors, each with the path of its key."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def parse_config(
    text: str,
    *,
    environment: Mapping[str, str],
    reads_passwords: bool = True,
    is_store_given: bool = False,
) -> Config:
    """Parse a TOML document, with defaults from the environment; reads the password files.

    Without `reads_passwords` passwords stay empty, for callers that need none and may not read the files.
    `is_store_given` means that an option will override the path of the store.

    Raises:
        ConfigError: The configuration is invalid.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"not TOML: {error}"]) from None
    document["hosted"] = defaults.hosted_table(document, environment, is_store_given=is_store_given)
    document["store"] = defaults.store_table(document.get("store", {}), environment)
    tables, lines = defaults.upstream_tables(document.pop("upstream", []))
    lines += conflicts(document, tables)
    config, errors = schema.read(Config, document)
    lines += errors
    upstreams = []
    for path, table in tables.items():
        upstream, errors = schema.read(UpstreamConfig, table, path)
        lines += errors
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
    listen: Sequence[str] = (),
    upstream: str | None = None,
    store: str | None = None,
    admin: str | None = None,
) -> Config:
    """Return the configuration with the values of command line options.

    The endpoints `listen` replace all listeners. `upstream` replaces the URL of docker.io; docker.io's own
    token service is then no longer trusted with the account.

    Raises:
        ConfigError: An option is invalid.
    """
    if listen:
        config = attrs.evolve(config, listen=())
    options: list[tuple[str, str | None, Callable[[Config, str], Config]]] = [
        *(("listen", endpoint, _with_listener) for endpoint in listen),
        ("store", store, _with_store),
        ("admin", admin, _with_admin),
        ("upstream", upstream, _with_hub),
    ]
    lines: list[str] = []
    for name, text, apply in options:
        try:
            config = config if text is None else apply(config, text)
        except ValueError as error:
            lines.append(f"--{name}: {error}")
    if lines:
        raise ConfigError(lines)
    return config


def render(config: Config) -> str:
    """Return the effective configuration as TOML without secrets; `parse_config` is its inverse."""
    return schema.write(config)


def _with_passwords(
    upstream: UpstreamConfig, path: str, environment: Mapping[str, str], lines: list[str]
) -> UpstreamConfig:
    accounts = []
    for index, account in enumerate(upstream.account):
        try:
            password = read_password(account.password_file, environment)
        except ValueError as error:
            lines.append(f"{path}.account[{index}].password_file: {error}")
        else:
            accounts.append(attrs.evolve(account, password=password))
    return attrs.evolve(upstream, account=tuple(accounts))


def _with_listener(config: Config, endpoint: str) -> Config:
    return attrs.evolve(config, listen=(*config.listen, ListenConfig(endpoint=parse_endpoint(endpoint))))


def _with_store(config: Config, path: str) -> Config:
    return attrs.evolve(config, store=attrs.evolve(config.store, path=parse_path(path)))


def _with_admin(config: Config, endpoint: str) -> Config:
    return attrs.evolve(config, admin=attrs.evolve(config.admin, endpoint=parse_endpoint(endpoint)))


def _with_hub(config: Config, url: str) -> Config:
    origin = parse_origin(url)

    def replace(upstream: UpstreamConfig) -> UpstreamConfig:
        if upstream.name != DOCKER_HUB:
            return upstream
        realm = None if upstream.realm == defaults.DOCKER_HUB_REALM else upstream.realm
        return attrs.evolve(upstream, url=origin, realm=realm)

    return attrs.evolve(config, upstream=tuple(map(replace, config.upstream)))
