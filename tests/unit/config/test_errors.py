"""Errors of the configuration: every mistake, by the path of its key."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import Account, ConfigError, parse_config

DOCKER_IO = 'upstream]]\nname = "docker.io"'

ERRORS = [
    ("= 5", "not TOML: Invalid statement (at line 1, column 1)"),
    ("a = " + "[" * 3000, "not TOML: "),
    ("drain_timeout = 30", 'drain_timeout: a string such as "5m" is needed, not a number'),
    ("drain_timeout = true", 'drain_timeout: a string such as "5m" is needed, not true or false'),
    ('drain_timeout = "30"', "drain_timeout: a duration is a number with one of the units ms, s, m, h, d"),
    ('drain_timeout = "-1s"', "drain_timeout: a duration is a number with one of the units ms, s, m, h, d"),
    ('drain_timeout = "99999d"', "drain_timeout: too large to be meant"),
    ('drain_timeot = "30s"', "drain_timeot: unknown key; did you mean drain_timeout?"),
    ('"a\\nb" = 1', '"a\\nb": unknown key'),
    ("store = 5", "store: a table is needed, not a number"),
    ('store = "x"', "store: a table is needed, not a string"),
    ("[[store]]", "store: a table is needed, not a list"),
    ("store = 2026-11-21", "store: a table is needed, not a date or time"),
    ("[store]\npath = 5", "store.path: a string is needed, not a number"),
    ('[store]\npath = ""', "store.path: a path is needed"),
    ('[store]\nmax_size = "0 B"', "store.max_size: more than nothing is needed"),
    (
        '[store]\nmax_size = "5 gib"',
        "store.max_size: a size is a number with one of the units B, KB, KiB, MB, MiB, GB, GiB, TB, TiB",
    ),
    ('[store]\nmin_free = "9999999 TiB"', "store.min_free: too large to be meant"),
    ("listen = []", "listen: at least one is needed"),
    ("[listen]", "listen: a list is needed, not a table"),
    (
        '[[listen]]\nendpoint = "5000"',
        "listen[0].endpoint: a Twisted server endpoint is needed, such as tcp:5000",
    ),
    ('[[listen]]\nendpoint = "tcp:65536"', "listen[0].endpoint: its port is a number from 0 to 65535"),
    ('[[listen]]\nendpoint = "tcp6:port=http"', "listen[0].endpoint: its port is a number from 0 to 65535"),
    ('[[listen]]\nendpoint = "tcp:1:interface=lan"', "listen[0].endpoint: its interface is an IP address"),
    (
        '[[listen]]\nendpoint = "tcp:1:localhost"',
        "listen[0].endpoint: its interface is an IP address, such as 127.0.0.1",
    ),
    ('[[listen]]\nstall_timeout = "999ms"', "listen[0].stall_timeout: at least 1s is needed"),
    ('[[listen]]\ncertificate = "/c"', "listen[0].key: missing; TLS needs both"),
    ('[[listen]]\nkey = "/k"', "listen[0].certificate: missing; TLS needs both"),
    ('[[listen]]\nclient_ca = "/c"', "listen[0].client_ca: means nothing without a certificate and a key"),
    (
        "[[listen]]\nproxy_protocol = true",
        "listen[0].trusted_proxies: missing; whose PROXY headers are to be believed?",
    ),
    ("[[listen]]\nproxy_protocol = 1", "listen[0].proxy_protocol: true or false is needed, not a number"),
    (
        '[[listen]]\ntrusted_proxies = ["10.0.0.1/8"]',
        "listen[0].trusted_proxies[0]: a network or an address is needed, such as 10.0.0.0/8",
    ),
    ('[[listen]]\ncertificates = [{key = "/k"}]', "listen[0].certificates[0].certificate: missing"),
    ('[log]\nlevel = "loud"', "log.level: one of debug, info, warn, error is needed"),
    ('[log]\nformat = "xml"', "log.format: one of auto, journal, text, json is needed"),
    ('[[listen]]\n[[listen]]\nupstream = "x.io"', "listen[1].upstream: no upstream is called x.io"),
    ('upstream = "x"', "upstream: a list of tables is needed; begin each with [[upstream]]"),
    ("upstream = [5]", "upstream[0]: a table is needed, not a number"),
    ('[[upstream]]\nurl = "https://x"', "upstream[0].name: missing"),
    ('[[upstream]]\nname = "x.io"', "upstream['x.io'].url: missing"),
    (
        '[[upstream]]\nname = "X"\nurl = "https://x"',
        "upstream[0].name: a host name in lowercase is needed, such as ghcr.io or registry.lan:5000",
    ),
    (
        '[[upstream]]\nname = "index.docker.io"\nurl = "https://x"',
        "upstream['index.docker.io'].name: another name of docker.io; write that",
    ),
    (f"[[{DOCKER_IO}\n[[{DOCKER_IO}", "upstream[1].name: docker.io is there twice"),
    (
        f'[[{DOCKER_IO}\nprefix = "v2"',
        "upstream['docker.io'].prefix: one path component of lowercase letters",
    ),
    (
        f'[[{DOCKER_IO}\nprefix = "a/b"',
        "upstream['docker.io'].prefix: one path component of lowercase letters",
    ),
    (
        f'[[{DOCKER_IO}\nprefix = "quay"',
        "upstream['quay.io'].prefix: 'quay' is also the prefix of upstream['docker.io']",
    ),
    (f'[[{DOCKER_IO}\nurl = "hub"', "upstream['docker.io'].url: a URL that begins with https:// or http://"),
    (
        f'[[{DOCKER_IO}\nurl = "ftp://hub"',
        "upstream['docker.io'].url: a URL that begins with https:// or http://",
    ),
    (f'[[{DOCKER_IO}\nurl = "https://hub/v2/"', "upstream['docker.io'].url: scheme and host only"),
    (f'[[{DOCKER_IO}\nurl = "https://hub?a"', "upstream['docker.io'].url: scheme and host only"),
    (f'[[{DOCKER_IO}\nurl = "https://hub:0"', "upstream['docker.io'].url: its host cannot be read"),
    (f'[[{DOCKER_IO}\nurl = "https://hub:99999"', "upstream['docker.io'].url: not a URL"),
    (f'[[{DOCKER_IO}\nurl = "https://a b"', "upstream['docker.io'].url: its host cannot be read"),
    (
        f'[[{DOCKER_IO}\nrealm = "https://me@hub"',
        "upstream['docker.io'].realm: no user or password goes into",
    ),
    (
        f'[[{DOCKER_IO}\nproxy = "https://hub"',
        "upstream['docker.io'].proxy: a URL that begins with http:// is needed",
    ),
    (f'[[{DOCKER_IO}\nallow = "library/*"', "upstream['docker.io'].allow: a list is needed, not a string"),
    (f'[[{DOCKER_IO}\ndeny = ["a", 5]', "upstream['docker.io'].deny[1]: a string is needed, not a number"),
    (
        f'[[{DOCKER_IO}\ndeny = ["Library/*"]',
        "upstream['docker.io'].deny[0]: no repository's name can match this",
    ),
    (f'[[{DOCKER_IO}\ndeny = [""]', "upstream['docker.io'].deny[0]: no repository's name can match this"),
    (
        f'[[{DOCKER_IO}\nconect_timeout = "5s"',
        "upstream['docker.io'].conect_timeout: unknown key; did you mean connect_timeout?",
    ),
    (f"[[{DOCKER_IO}\naccount = 5", "upstream['docker.io'].account: a list is needed, not a number"),
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
        "upstream['docker.io'].account[0].password_file: no such credential: systemd has given us none",
    ),
    ("[freshness]\ntag_ttl = 300", 'freshness.tag_ttl: a string such as "5m" is needed, not a number'),
    ('[gc]\ninterval = "0ms"', "gc.interval: at least 1s is needed"),
    (f'[[{DOCKER_IO}\nidle_timeout = "99ms"', "upstream['docker.io'].idle_timeout: at least 100ms is needed"),
    (f'[[{DOCKER_IO}\nconnect_timeout = "1ms"', "upstream['docker.io'].connect_timeout: at least 100ms"),
    (
        f'[[{DOCKER_IO}\naccount = [{{username = "", password_file = "/dev/null"}}]',
        "upstream['docker.io'].account[0].username: a name without a colon is needed",
    ),
    (
        f'[[{DOCKER_IO}\naccount = [{{username = "me:s3cret", password_file = "/dev/null"}}]',
        "upstream['docker.io'].account[0].username: a name without a colon is needed",
    ),
    (
        f"[[{DOCKER_IO}\n" + '[[upstream.account]]\nusername = "a"\npassword_file = "/dev/null"\n' * 2,
        "upstream['docker.io'].account: one account for now, not 2",
    ),
    (
        f'[[{DOCKER_IO}\nrealm = "http://auth.docker.io"',
        "upstream['docker.io'].realm: it hears a password: https:// is needed",
    ),
    (
        f'[[{DOCKER_IO}\nurl = "http://hub.lan"\nrealm = "http://auth.lan"',
        "upstream['docker.io'].realm: it hears a password: https:// is needed",
    ),
    (
        f'[[{DOCKER_IO}\nproxy = "http://me:s3cret@hub"',
        "upstream['docker.io'].proxy: no user or password goes into a URL; a proxy that wants them",
    ),
    ('[admin]\nendpoint = "tcp:x"', "admin.endpoint: its port is a number from 0 to 65535"),
]


def parse(text: str) -> None:
    parse_config(text, environment={"HOME": "/home/me"})


class ErrorTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Each mistake is told in one line with the path of its key."""
        for text, line in ERRORS:
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse(text)
            (said,) = caught.exception.lines
            self.assertTrue(said.startswith(line), f"{text!r}: {said!r} does not begin with {line!r}")

    def test_all_at_once(self) -> None:
        """All that is wrong is told at once, whatever table it is in."""
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
        """A password that stands where it should not is not repeated, nor one that was read shown by repr."""
        for text in (
            f'[[{DOCKER_IO}\nurl = "https://me:hunter2@hub"',
            f'[[{DOCKER_IO}\nproxy = "http://me:hunter2@hub"',
            '[[upstream]]\nname = "https://me:hunter2@hub"',
            f'[[{DOCKER_IO}\naccount = [{{username="me", password="hunter2"}}]',
        ):
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse(text)
            self.assertNotIn("hunter2", str(caught.exception))
        self.assertNotIn("hunter2", repr(Account("me", "hunter2")))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the file holds, the answer is a configuration or a ConfigError."""
        try:
            parse(text)
        except ConfigError as error:
            self.assertTrue(error.lines)

    @given(st.sampled_from([text for text, _ in ERRORS]), st.sampled_from([text for text, _ in ERRORS]))
    def test_any_two_mistakes(self, one: str, other: str) -> None:
        """Mistakes do not hide each other behind another exception."""
        with self.assertRaises(ConfigError):
            parse(f"{one}\n{other}")
