"""The configuration: defaults, keys and passwords."""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import (
    AccountConfig,
    AdminConfig,
    CertificateConfig,
    Config,
    ConfigError,
    FreshnessConfig,
    GCConfig,
    ListenConfig,
    LogConfig,
    StoreConfig,
    UpstreamConfig,
    parse_config,
)
from mirrord.config.folders import state_folder

HOME = {"HOME": "/home/me"}

DOCKER_IO = 'upstream]]\nname = "docker.io"'


def parse(text: str, environment: Mapping[str, str] = HOME) -> Config:
    return parse_config(text, environment=environment)


def hub(config: Config) -> UpstreamConfig:
    return config.upstream[0]


class DefaultTests(SynchronousTestCase):
    def test_empty(self) -> None:
        """Without a file every key has its documented default."""
        self.assertEqual(parse(""), Config(store=StoreConfig(Path("/home/me/.cache/mirrord"))))

    def test_built_in(self) -> None:
        """Seven upstreams are built in, Docker Hub first and with its token service."""
        config = parse("")
        self.assertEqual(
            [(one.name, one.prefix) for one in config.upstream],
            [
                ("docker.io", "dockerhub"),
                ("ghcr.io", "ghcr"),
                ("quay.io", "quay"),
                ("gcr.io", "gcr"),
                ("registry.k8s.io", "k8s"),
                ("public.ecr.aws", "ecr"),
                ("mcr.microsoft.com", "mcr"),
            ],
        )
        self.assertEqual(hub(config).url, "https://registry-1.docker.io")
        self.assertEqual([one.realm for one in config.upstream], ["https://auth.docker.io", *[None] * 6])

    def test_store_path(self) -> None:
        """The store is in the service's cache folder, else in the user's."""
        table = [
            ({"CACHE_DIRECTORY": "/var/cache/mirrord", "HOME": "/h"}, "/var/cache/mirrord"),
            ({"CACHE_DIRECTORY": "/var/cache/a:/var/cache/b"}, "/var/cache/a"),
            ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/mirrord"),
            ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/mirrord"),
            ({"CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/mirrord"),
        ]
        for environment, path in table:
            self.assertEqual(parse("", environment).store.path, Path(path))
        self.assertEqual(parse('[store]\npath = "/srv"', {}).store.path, Path("/srv"))
        with self.assertRaises(ConfigError) as caught:
            parse("", {})
        self.assertEqual(caught.exception.lines, ("store.path: missing",))

    def test_state_folder(self) -> None:
        """State that is not content is in the service's state folder, else in the store."""
        for environment, path in (
            ({"STATE_DIRECTORY": "/var/lib/mirrord:/var/lib/b"}, "/var/lib/mirrord"),
            ({"STATE_DIRECTORY": ""}, "/srv"),
            ({}, "/srv"),
        ):
            self.assertEqual(state_folder(environment, Path("/srv")), Path(path))

    def test_command_socket(self) -> None:
        """Commands are accepted in the runtime folder, else in the state folder, else in the store."""
        runtime, state = {"RUNTIME_DIRECTORY": "/run/mirrord:/run/b"}, {"STATE_DIRECTORY": "/var/lib/mirrord"}
        for admin, environment, path in (
            ("", {**runtime, **state}, "/run/mirrord/command"),
            ("", state, "/var/lib/mirrord/command"),
            ("", {}, "/srv/command"),
            ('endpoint = "systemd:domain=UNIX:name=x"', {}, "/srv/command"),
            ('endpoint = "unix:/run/x:mode=660"', runtime, "/run/x"),
            ('endpoint = "unix:/run/x"\nsocket = "/run/y"', runtime, "/run/y"),
            ('socket = "/run/y"', runtime, "/run/y"),
        ):
            config = parse(f"[admin]\n{admin}")
            self.assertEqual(config.admin.command_socket(environment, Path("/srv")), Path(path), admin)


class FileTests(SynchronousTestCase):
    def test_every_key(self) -> None:
        """Every key of the file becomes the field of its name."""
        with TemporaryDirectory() as folder:
            Path(folder, "token").write_text("s3cret\n")
            config = parse(
                """
                drain_timeout = "1m"
                [store]
                path = "/srv/mirror"
                max_size = "50 GiB"
                min_free = "1.5GB"
                [[listen]]
                endpoint = "tcp6:5443:interface=\\\\:\\\\:1"
                stall_timeout = "1h"
                certificate = "/tls/chain.pem"
                key = "/tls/key.pem"
                certificates = [{certificate = "/tls/lan.pem", key = "/tls/lan.key"}]
                client_ca = "/tls/clients.pem"
                proxy_protocol = true
                trusted_proxies = ["10.0.0.0/8", "fd00::1"]
                upstream = "own.lan:5000"
                [[listen]]
                endpoint = "unix:/run/mirrord.sock"
                [[upstream]]
                name = "own.lan:5000"
                url = "http://10.0.0.1:5000/"
                prefix = "own"
                allow = ["team/*"]
                deny = ["team/secret"]
                tag_ttl = "500ms"
                realm = "https://AUTH.lan"
                ca = "/ca.pem"
                proxy = "http://proxy.lan:3128"
                connect_timeout = "2s"
                idle_timeout = "3s"
                account = [{username = "me", password_file = "credential:token"}]
                [freshness]
                tag_ttl = "0s"
                stale_if_error = "1d"
                negative_ttl = "1s"
                [gc]
                interval = "1m"
                unused_for = "2d"
                partials = "3d"
                [admin]
                endpoint = "tcp:0"
                socket = "/run/m/command"
                [log]
                format = "json"
                level = "debug"
                access = "/var/log/mirrord/access.log"
                """,
                {"CREDENTIALS_DIRECTORY": folder},
            )
        listen = ListenConfig(
            endpoint="tcp6:5443:interface=\\:\\:1",
            stall_timeout=3600.0,
            certificate=Path("/tls/chain.pem"),
            key=Path("/tls/key.pem"),
            certificates=(CertificateConfig(Path("/tls/lan.pem"), Path("/tls/lan.key")),),
            client_ca=Path("/tls/clients.pem"),
            proxy_protocol=True,
            trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("fd00::1/128")),
            upstream="own.lan:5000",
        )
        own = UpstreamConfig(
            name="own.lan:5000",
            url="http://10.0.0.1:5000",
            prefix="own",
            allow=("team/*",),
            deny=("team/secret",),
            tag_ttl=0.5,
            realm="https://auth.lan",
            ca=Path("/ca.pem"),
            proxy="http://proxy.lan:3128",
            connect_timeout=2.0,
            idle_timeout=3.0,
            account=(AccountConfig("me", "s3cret", "credential:token"),),
        )
        self.assertEqual(
            config,
            Config(
                store=StoreConfig(Path("/srv/mirror"), 50 * 2**30, 1_500_000_000),
                listen=(listen, ListenConfig(endpoint="unix:/run/mirrord.sock")),
                upstream=(*Config(store=config.store).upstream, own),
                freshness=FreshnessConfig(0.0, 86_400.0, 1.0),
                gc=GCConfig(60.0, 172_800.0, 259_200.0),
                admin=AdminConfig("tcp:0", Path("/run/m/command")),
                log=LogConfig("json", "debug", Path("/var/log/mirrord/access.log")),
                drain_timeout=60.0,
            ),
        )

    def test_built_in_upstream_is_overridden_by_key(self) -> None:
        """An upstream of a built-in name keeps the built-in keys that the file does not set."""
        config = parse(f'[[{DOCKER_IO}\ntag_ttl = "1m"')
        self.assertEqual(hub(config), attrs.evolve(hub(parse("")), tag_ttl=60.0))

    def test_other_url_other_realm(self) -> None:
        """At another URL the built-in token service may no longer receive the account, unless configured."""
        moved = f'[[{DOCKER_IO}\nurl = "https://hub.lan"'
        self.assertIsNone(hub(parse(moved)).realm)
        realm = hub(parse(f'{moved}\nrealm = "https://auth.docker.io"')).realm
        self.assertEqual(realm, "https://auth.docker.io")

    def test_plain_realm(self) -> None:
        """A token service without TLS is accepted for an upstream without TLS on the same host."""
        text = f'[[{DOCKER_IO}\nurl = "http://hub.lan:5000"\nrealm = "http://hub.lan:5001"'
        self.assertEqual(hub(parse(text)).realm, "http://hub.lan:5001")


class PasswordTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "password")

    def read(self) -> str:
        text = f'[[{DOCKER_IO}\naccount = [{{username="me", password_file="{self.file}"}}]'
        return hub(parse(text)).account[0].password

    def test_file(self) -> None:
        """A password is the content of its file, without the line end that editors add."""
        for content, password in (
            (b"pass word\n", "pass word"),
            (b"x\r\n", "x"),
            (b" x", " x"),
            (b"x\n\n", "x\n"),
        ):
            self.file.write_bytes(content)
            self.assertEqual(self.read(), password)

    def test_no_password(self) -> None:
        """An empty file, and one that is not text, are errors."""
        for content, line in ((b"\n", "the file is empty"), (b"\xff", "cannot be read: not UTF-8")):
            self.file.write_bytes(content)
            with self.assertRaises(ConfigError) as caught:
                self.read()
            self.assertEqual(str(caught.exception), f"upstream['docker.io'].account[0].password_file: {line}")

    def test_device(self) -> None:
        """A device, which may be endless, is not read."""
        self.file = Path("/dev/zero")
        with self.assertRaises(ConfigError):
            self.read()

    def test_credential_stays_in_its_folder(self) -> None:
        """The name of a credential cannot be a path."""
        with self.assertRaises(ConfigError):
            parse(
                f'[[{DOCKER_IO}\naccount = [{{username="me", password_file="credential:../passwd"}}]',
                {"CREDENTIALS_DIRECTORY": "/etc/apt", **HOME},
            )
