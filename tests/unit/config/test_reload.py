"""What a reload can change, and what it names instead."""

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import Config, parse_config
from mirrord.config.reload import bound_changes, merge


def parse(text: str) -> Config:
    return parse_config(text, environment={"HOME": "/home/me"})


class ReloadTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """The same file again changes nothing."""
        config = parse("")
        self.assertEqual(list(bound_changes(config, parse(""))), [])
        self.assertEqual(merge(config, parse("")), config)

    def test_live(self) -> None:
        """Upstreams, freshness, bounds, limits of connections and times take effect at once."""
        wanted = parse(
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
        self.assertEqual(list(bound_changes(parse(""), wanted)), [])
        self.assertEqual(merge(parse(""), wanted), wanted)

    def test_bound(self) -> None:
        """The store's folder, the ports and what greets connections are named, and stay as they are."""
        running = parse("")
        wanted = parse(
            '[store]\npath = "/other"\n[admin]\nendpoint = "tcp:7"\n'
            '[[listen]]\nendpoint = "tcp:8"\ncertificate = "/c"\nkey = "/k"\nstall_timeout = "1m"'
        )
        self.assertEqual(
            list(bound_changes(running, wanted)),
            [
                "store.path",
                "admin.endpoint",
                "listen[0].endpoint",
                "listen[0].certificate",
                "listen[0].key",
            ],
        )
        (listen,) = running.listen
        self.assertEqual(
            merge(running, wanted), attrs.evolve(running, listen=(attrs.evolve(listen, stall_timeout=60.0),))
        )

    def test_another_number_of_listeners(self) -> None:
        """A listener more or less needs a restart, and all of them stay as they are."""
        running, wanted = parse(""), parse('[[listen]]\nstall_timeout = "1s"\n[[listen]]\nendpoint = "tcp:8"')
        self.assertEqual(list(bound_changes(running, wanted)), ["listen"])
        self.assertEqual(merge(running, wanted), running)
