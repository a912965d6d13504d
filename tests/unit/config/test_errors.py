"""Errors of the configuration are reported with the path of their key."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import AccountConfig, ConfigError, parse_config

DOCKER_IO = 'upstream]]\nname = "docker.io"'

ERRORS = [
    ("= 5", "not TOML: Invalid statement (at line 1, column 1)"),
    ("a = " + "[" * 3000, "not TOML: "),
    ("drain_timeout = 30", 'drain_timeout: must be a string such as "5m", not a number'),
    ("drain_timeout = true", 'drain_timeout: must be a string such as "5m", not true or false'),
    (
        'drain_timeout = "30"',
        "drain_timeout: must be a number with one of the units ms, s, m, h, d",
    ),
    (
        'drain_timeout = "-1s"',
        "drain_timeout: must be a number with one of the units ms, s, m, h, d",
    ),
    ('drain_timeout = "99999d"', "drain_timeout: is too large"),
    ('drain_timeot = "30s"', "drain_timeot: unknown key; did you mean drain_timeout?"),
    ('"a\\nb" = 1', '"a\\nb": unknown key'),
    ("store = 5", "store: must be a table, not a number"),
    ('store = "x"', "store: must be a table, not a string"),
    ("[[store]]", "store: must be a table, not a list"),
    ("store = 2026-11-21", "store: must be a table, not a date or time"),
    ("[store]\npath = 5", "store.path: must be a string, not a number"),
    ('[store]\npath = ""', "store.path: must be a path"),
    ('[store]\nmax_size = "0 B"', "store.max_size: must be greater than zero"),
    (
        '[store]\nmax_size = "5 gib"',
        "store.max_size: must be a number with one of the units B, KB, KiB, MB, MiB, GB, GiB, TB, TiB",
    ),
    ('[store]\nmin_free = "9999999 TiB"', "store.min_free: is too large"),
    ("listen = []", "listen: at least one is needed"),
    ("[listen]", "listen: must be a list, not a table"),
    (
        '[[listen]]\nendpoint = "5000"',
        "listen[0].endpoint: must be a Twisted server endpoint, such as tcp:5000",
    ),
    ('[[listen]]\nendpoint = "tcp:65536"', "listen[0].endpoint: its port must be a number from 0 to 65535"),
    (
        '[[listen]]\nendpoint = "tcp6:port=http"',
        "listen[0].endpoint: its port must be a number from 0 to 65535",
    ),
    (
        '[[listen]]\nendpoint = "tcp:1:interface=lan"',
        "listen[0].endpoint: its interface must be an IP address",
    ),
    (
        '[[listen]]\nendpoint = "tcp:1:localhost"',
        "listen[0].endpoint: its interface must be an IP address, such as 127.0.0.1",
    ),
    ('[admin]\nsocket = ""', "admin.socket: must be a path"),
    (
        f'[admin]\nsocket = "/{"x" * 107}"',
        "admin.socket: the path of a Unix socket must not exceed 107 bytes; this has 108: /xxx",
    ),
    (f'[admin]\nsocket = "/{"ä" * 54}"', "admin.socket: the path of a Unix socket must not exceed 107 bytes"),
    (
        f'[admin]\nendpoint = "unix:/{"x" * 107}:mode=600"',
        "admin.endpoint: the path of a Unix socket must not",
    ),
    ('[[listen]]\nstall_timeout = "999ms"', "listen[0].stall_timeout: must be at least 1s"),
    ('[[listen]]\ncertificate = "/c"', "listen[0].key: missing; TLS needs both"),
    ('[[listen]]\nkey = "/k"', "listen[0].certificate: missing; TLS needs both"),
    ('[[listen]]\nclient_ca = "/c"', "listen[0].client_ca: has no effect without a certificate and a key"),
    (
        "[[listen]]\nproxy_protocol = true",
        "listen[0].trusted_proxies: missing; needed to accept PROXY headers",
    ),
    ("[[listen]]\nproxy_protocol = 1", "listen[0].proxy_protocol: must be true or false, not a number"),
    (
        '[[listen]]\ntrusted_proxies = ["10.0.0.1/8"]',
        "listen[0].trusted_proxies[0]: must be a network or an address, such as 10.0.0.0/8",
    ),
    ('[[listen]]\ncertificates = [{key = "/k"}]', "listen[0].certificates[0].certificate: missing"),
    ('[log]\nlevel = "loud"', "log.level: must be one of debug, info, warn, error"),
    ('[log]\nformat = "xml"', "log.format: must be one of auto, journal, text, json"),
    ('[[listen]]\n[[listen]]\nupstream = "x.io"', "listen[1].upstream: there is no upstream x.io"),
    ('upstream = "x"', "upstream: must be a list of tables; begin each with [[upstream]]"),
    ("upstream = [5]", "upstream[0]: must be a table, not a number"),
    ('[[upstream]]\nurl = "https://x"', "upstream[0].name: missing"),
    ('[[upstream]]\nname = "x.io"', "upstream['x.io'].url: missing"),
    (
        '[[upstream]]\nname = "X"\nurl = "https://x"',
        "upstream[0].name: must be a host name in lowercase, such as ghcr.io or registry.lan:5000",
    ),
    (
        '[[upstream]]\nname = "index.docker.io"\nurl = "https://x"',
        "upstream['index.docker.io'].name: is an alias of docker.io; use that name",
    ),
    (f"[[{DOCKER_IO}\n[[{DOCKER_IO}", "upstream[1].name: docker.io is configured twice"),
    (
        f'[[{DOCKER_IO}\nprefix = "v2"',
        "upstream['docker.io'].prefix: must be one path component of lowercase letters",
    ),
    (
        f'[[{DOCKER_IO}\nprefix = "a/b"',
        "upstream['docker.io'].prefix: must be one path component of lowercase letters",
    ),
    (
        f'[[{DOCKER_IO}\nprefix = "quay"',
        "upstream['quay.io'].prefix: 'quay' is also the prefix of upstream['docker.io']",
    ),
    (
        f'[[{DOCKER_IO}\nurl = "hub"',
        "upstream['docker.io'].url: must be a URL that begins with https:// or http://",
    ),
    (
        f'[[{DOCKER_IO}\nurl = "ftp://hub"',
        "upstream['docker.io'].url: must be a URL that begins with https:// or http://",
    ),
    (f'[[{DOCKER_IO}\nurl = "https://hub/v2/"', "upstream['docker.io'].url: must be scheme and host only"),
    (f'[[{DOCKER_IO}\nurl = "https://hub?a"', "upstream['docker.io'].url: must be scheme and host only"),
    (f'[[{DOCKER_IO}\nurl = "https://hub:0"', "upstream['docker.io'].url: has an invalid host or port"),
    (f'[[{DOCKER_IO}\nurl = "https://hub:99999"', "upstream['docker.io'].url: must be a URL"),
    (f'[[{DOCKER_IO}\nurl = "https://a b"', "upstream['docker.io'].url: has an invalid host or port"),
    (
        f'[[{DOCKER_IO}\nrealm = "https://me@hub"',
        "upstream['docker.io'].realm: must not contain a user or a password",
    ),
    (
        f'[[{DOCKER_IO}\nproxy = "https://hub"',
        "upstream['docker.io'].proxy: must be a URL that begins with http://",
    ),
    (f'[[{DOCKER_IO}\nallow = "library/*"', "upstream['docker.io'].allow: must be a list, not a string"),
    (f'[[{DOCKER_IO}\ndeny = ["a", 5]', "upstream['docker.io'].deny[1]: must be a string, not a number"),
    (
        f'[[{DOCKER_IO}\ndeny = ["Library/*"]',
        "upstream['docker.io'].deny[0]: no repository name can match this pattern",
    ),
    (
        f'[[{DOCKER_IO}\ndeny = [""]',
        "upstream['docker.io'].deny[0]: no repository name can match this pattern",
    ),
    (
        f'[[{DOCKER_IO}\nconect_timeout = "5s"',
        "upstream['docker.io'].conect_timeout: unknown key; did you mean connect_timeout?",
    ),
    (f"[[{DOCKER_IO}\naccount = 5", "upstream['docker.io'].account: must be a list, not a number"),
    (f"[[{DOCKER_IO}\naccount = [{{}}]", "upstream['docker.io'].account[0].username: missing"),
    (
        f'[[{DOCKER_IO}\naccount = [{{username="me"}}]',
        "upstream['docker.io'].account[0].password_file: missing",
    ),
    (
        f'[[{DOCKER_IO}\naccount = [{{username="me", password="x"}}]',
        "upstream['docker.io'].account[0].password: unknown key; did you mean password_file?",
    ),
    (
        f'[[{DOCKER_IO}\naccount = [{{username="me", password_file="/nowhere"}}]',
        "upstream['docker.io'].account[0].password_file: cannot be read: No such file or directory",
    ),
    (
        f'[[{DOCKER_IO}\naccount = [{{username="me", password_file="credential:hub"}}]',
        "upstream['docker.io'].account[0].password_file: systemd has passed no such credential",
    ),
    ("[freshness]\ntag_ttl = 300", 'freshness.tag_ttl: must be a string such as "5m", not a number'),
    ('[gc]\ninterval = "0ms"', "gc.interval: must be at least 1s"),
    (
        f'[[{DOCKER_IO}\nidle_timeout = "99ms"',
        "upstream['docker.io'].idle_timeout: must be at least 100ms",
    ),
    (
        f'[[{DOCKER_IO}\nconnect_timeout = "1ms"',
        "upstream['docker.io'].connect_timeout: must be at least 100ms",
    ),
    (
        f'[[{DOCKER_IO}\naccount = [{{username = "", password_file = "/dev/null"}}]',
        "upstream['docker.io'].account[0].username: must be a name without a colon",
    ),
    (
        f'[[{DOCKER_IO}\naccount = [{{username = "me:s3cret", password_file = "/dev/null"}}]',
        "upstream['docker.io'].account[0].username: must be a name without a colon",
    ),
    (
        f"[[{DOCKER_IO}\n" + '[[upstream.account]]\nusername = "a"\npassword_file = "/dev/null"\n' * 2,
        "upstream['docker.io'].account: only one account is supported, not 2",
    ),
    (
        f'[[{DOCKER_IO}\nrealm = "http://auth.docker.io"',
        "upstream['docker.io'].realm: would receive a password: must be https://",
    ),
    (
        f'[[{DOCKER_IO}\nurl = "http://hub.lan"\nrealm = "http://auth.lan"',
        "upstream['docker.io'].realm: would receive a password: must be https://",
    ),
    (
        f'[[{DOCKER_IO}\nproxy = "http://me:s3cret@hub"',
        "upstream['docker.io'].proxy: must not contain a user or a password; set HTTPS_PROXY",
    ),
    ('[admin]\nendpoint = "tcp:x"', "admin.endpoint: its port must be a number from 0 to 65535"),
]


def parse(text: str) -> None:
    parse_config(text, environment={"HOME": "/home/me"})


class ErrorTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Each error is reported in one line with the path of its key."""
        for text, line in ERRORS:
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse(text)
            (message,) = caught.exception.lines
            self.assertTrue(message.startswith(line), f"{text!r}: {message!r} does not begin with {line!r}")

    def test_all_at_once(self) -> None:
        """All errors are reported at once, whatever table they are in."""
        with self.assertRaises(ConfigError) as caught:
            parse(
                'x = 1\n[store]\npath = 5\n[[listen]]\nupstream = "y"\n'
                '[[upstream]]\nname = "z"\nprefix = "quay"\nurl = 5\ntag_ttl = 5\n'
            )
        self.assertEqual(
            sorted(line.partition(":")[0] for line in caught.exception.lines),
            [
                "listen[0].upstream",
                "store.path",
                "upstream['z'].prefix",
                "upstream['z'].tag_ttl",
                "upstream['z'].url",
                "x",
            ],
        )

    def test_no_secret(self) -> None:
        """No error message or repr contains a password, even one in the wrong place."""
        for text in (
            f'[[{DOCKER_IO}\nurl = "https://me:hunter2@hub"',
            f'[[{DOCKER_IO}\nproxy = "http://me:hunter2@hub"',
            '[[upstream]]\nname = "https://me:hunter2@hub"',
            f'[[{DOCKER_IO}\naccount = [{{username="me", password="hunter2"}}]',
        ):
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse(text)
            self.assertNotIn("hunter2", str(caught.exception))
        self.assertNotIn("hunter2", repr(AccountConfig("me", "hunter2")))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a configuration or a ConfigError."""
        try:
            parse(text)
        except ConfigError as error:
            self.assertTrue(error.lines)

    @given(st.sampled_from([text for text, _ in ERRORS]), st.sampled_from([text for text, _ in ERRORS]))
    def test_any_two(self, one: str, other: str) -> None:
        """Any two errors together still raise ConfigError."""
        with self.assertRaises(ConfigError):
            parse(f"{one}\n{other}")
