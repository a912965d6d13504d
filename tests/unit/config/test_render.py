"""Overriding by command line options, and rendering as TOML."""

from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import (
    AccountConfig,
    Config,
    ConfigError,
    GCConfig,
    ListenConfig,
    StoreConfig,
    UpstreamConfig,
    override,
    parse_config,
    render,
)


def parse(text: str) -> Config:
    return parse_config(text, environment={"HOME": "/home/me"})


def hub(config: Config) -> UpstreamConfig:
    return config.upstream[0]


class OverrideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.config = parse('[[listen]]\nstall_timeout = "1s"\n[[listen]]\nendpoint = "tcp:1"')

    def test_nothing(self) -> None:
        """Without options nothing changes."""
        self.assertEqual(override(self.config), self.config)

    def test_all(self) -> None:
        """Options replace the values of the file."""
        config = override(
            self.config, listen=["tcp:5", "tcp:6"], upstream="http://127.0.0.1:5100", store="s", admin="tcp:7"
        )
        self.assertEqual(config.listen, (ListenConfig(endpoint="tcp:5"), ListenConfig(endpoint="tcp:6")))
        self.assertEqual(config.store.path, Path("s"))
        self.assertEqual(config.admin.endpoint, "tcp:7")
        self.assertEqual(hub(config), attrs.evolve(hub(self.config), url="http://127.0.0.1:5100", realm=None))
        self.assertEqual(config.upstream[1:], self.config.upstream[1:])

    def test_errors(self) -> None:
        """Every invalid option is reported by its name."""
        with self.assertRaises(ConfigError) as caught:
            override(
                self.config, listen=["tcp:5", "x"], upstream="http://a:hunter2@b", store="", admin="tcp:-1"
            )
        self.assertEqual(
            [line.partition(":")[0] for line in caught.exception.lines],
            ["--listen", "--store", "--admin", "--upstream"],
        )
        self.assertNotIn("hunter2", str(caught.exception))

    def test_plain_realm(self) -> None:
        """Another URL does not allow a token service without TLS to receive the account."""
        config = parse(
            '[[upstream]]\nname = "docker.io"\nurl = "http://hub.lan"\nrealm = "http://hub.lan:5001"'
        )
        with self.assertRaises(ConfigError) as caught:
            override(config, upstream="https://hub.lan")
        (line,) = caught.exception.lines
        self.assertTrue(line.startswith("--upstream: would receive a password"), line)


def durations() -> st.SearchStrategy[float]:
    return st.integers(1000, 10**12).map(lambda milliseconds: milliseconds / 1000)


class RenderTests(SynchronousTestCase):
    @given(
        st.builds(
            Config,
            store=st.builds(
                StoreConfig,
                st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).map(Path),
                st.none() | st.integers(1, 2**60),
                st.integers(0, 2**60),
            ),
            listen=st.lists(st.builds(ListenConfig, stall_timeout=durations()), min_size=1).map(tuple),
            gc=st.builds(GCConfig, durations(), durations(), durations()),
            drain_timeout=durations(),
        )
    )
    def test_round_trip(self, config: Config) -> None:
        """Rendering and parsing again returns an equal configuration."""
        self.assertEqual(parse(render(config)), config)

    def test_upstream_round_trip(self) -> None:
        """An upstream that is not built in, and an empty list of patterns, are rendered too."""
        config = parse(
            '[[upstream]]\nname = "docker.io"\nallow = []\n'
            '[[upstream]]\nname = "x"\nurl = "https://x"\ndeny = ["a"]'
        )
        self.assertEqual(parse(render(config)), config)

    def test_tls_round_trip(self) -> None:
        """A listener with several certificates behind a proxy is rendered too."""
        config = parse(
            '[[listen]]\ncertificates = [{certificate = "/a", key = "/b"}, {certificate = "/c", key = "/d"}]'
            "\n"
            'client_ca = "/e"\nproxy_protocol = true\ntrusted_proxies = ["10.0.0.0/8"]\n[log]\nlevel = "warn"'
        )
        self.assertEqual(len(config.listen[0].pairs), 2)
        self.assertEqual(parse(render(config)), config)

    def test_no_password(self) -> None:
        """A rendered account contains the path of its password file, not the password."""
        account = AccountConfig("me", "hunter2", "/etc/token")
        config = Config(
            store=StoreConfig(Path("/s")),
            upstream=(UpstreamConfig(name="x", url="https://x", account=(account,)),),
        )
        text = render(config)
        self.assertIn('[[upstream.account]]\nusername = "me"\npassword_file = "/etc/token"\n', text)
        self.assertNotIn("hunter2", text)
