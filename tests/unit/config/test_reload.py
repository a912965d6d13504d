"""Reload rules: keys that take effect, and keys that need a restart."""

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import Config, parse_config
from mirrord.config.reload import keys_needing_restart, merge


def parse(text: str) -> Config:
    return parse_config(text, environment={"HOME": "/home/me"})


class ReloadTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """Reloading an unchanged file changes nothing."""
        config = parse("")
        self.assertEqual(list(keys_needing_restart(config, parse(""))), [])
        self.assertEqual(merge(config, parse("")), config)

    def test_live(self) -> None:
        """Upstreams, freshness, size limits, connection limits and times take effect at once."""
        new = parse(
            """
            drain_timeout = "1s"
            [store]
            max_size = "1 GB"
            [[listen]]
            stall_timeout = "1m"
            upstream = "x.io"
            [[upstream]]
            name = "x.io"
            url = "https://x.io"
            [freshness]
            tag_ttl = "1s"
            [gc]
            interval = "1m"
            """
        )
        self.assertEqual(list(keys_needing_restart(parse(""), new)), [])
        self.assertEqual(merge(parse(""), new), new)

    def test_bound(self) -> None:
        """The store's folder, ports and TLS of listeners are named, and keep their values."""
        running = parse("")
        new = parse(
            '[store]\npath = "/other"\n[admin]\nendpoint = "tcp:7"\nsocket = "/s"\n'
            '[[listen]]\nendpoint = "tcp:8"\ncertificate = "/c"\nkey = "/k"\nstall_timeout = "1m"'
        )
        self.assertEqual(
            list(keys_needing_restart(running, new)),
            [
                "store.path",
                "admin.endpoint",
                "admin.socket",
                "listen[0].endpoint",
                "listen[0].certificate",
                "listen[0].key",
            ],
        )
        (listen,) = running.listen
        self.assertEqual(
            merge(running, new), attrs.evolve(running, listen=(attrs.evolve(listen, stall_timeout=60.0),))
        )

    def test_another_number_of_listeners(self) -> None:
        """Another number of listeners needs a restart, and all of them keep their values."""
        running, new = parse(""), parse('[[listen]]\nstall_timeout = "1s"\n[[listen]]\nendpoint = "tcp:8"')
        self.assertEqual(list(keys_needing_restart(running, new)), ["listen"])
        self.assertEqual(merge(running, new), running)
