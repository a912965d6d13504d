"""Logins while passwords are guessed."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import attrs
import bcrypt

from tests.integration.case import MirrorCase
from tests.integration.daemon import free_port
from tests.integration.test_access import basic

SECONDS = 8.0
WRONG_PER_SECOND = 100
_THREADS = 32
_COST = 10
"""The cost of a hash that `htpasswd -B -C 10` writes, for which a check takes a twentieth of a second."""

_CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
trusted_proxies = ["127.0.0.1"]
[access]
htpasswd = {htpasswd}
[[access.rules]]
repositories = ["*"]
pull = ["users"]
"""


@attrs.frozen
class Login:
    """The response to a login: its status, and the seconds that it took."""

    status: int
    seconds: float


def log_in(port: int, path: str, headers: Mapping[str, str]) -> Login:
    """Send a login over a connection of its own."""
    began_at = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        response.read()
        return Login(response.status, time.monotonic() - began_at)
    finally:
        connection.close()


class GuessingTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        htpasswd = self.folder / "htpasswd"
        lines = [
            f"{name}:{bcrypt.hashpw(password, bcrypt.gensalt(_COST)).decode()}\n"
            for name, password in (("ann", b"apple"), ("bob", b"berry"))
        ]
        htpasswd.write_text("".join(lines))
        self.proxied_port = free_port()
        self.daemon = self.start_daemon(
            more=_CONFIG.format(port=self.proxied_port, htpasswd=json.dumps(str(htpasswd)))
        )

    def check(self, port: int, proven: Mapping[str, str], wrong: Callable[[int], Mapping[str, str]]) -> None:
        """Log in with `proven` headers while others log in with `wrong` ones, and check both."""
        self.assertEqual(log_in(port, "/v2/", proven).status, 200)
        began_at = time.monotonic()

        def guess(number: int) -> Login:
            time.sleep(max(0.0, began_at + number / WRONG_PER_SECOND - time.monotonic()))
            return log_in(port, "/v2/token", wrong(number))

        def logins() -> Iterator[Login]:
            while time.monotonic() - began_at < SECONDS:
                yield log_in(port, "/v2/", proven)
                yield log_in(port, "/v2/token", proven)
                time.sleep(0.02)

        with ThreadPoolExecutor(_THREADS) as pool:
            guesses = pool.map(guess, range(int(SECONDS * WRONG_PER_SECOND)))
            answered = list(logins())
        statuses = Counter(login.status for login in guesses)
        took = sorted(login.seconds for login in answered)
        figures = (
            f"wrong: {statuses}; right: {len(took)}, median {took[len(took) // 2]:.3f} s, {took[-1]:.3f} s"
        )
        self.assertEqual(set(statuses), {401, 429}, figures)
        self.assertEqual({login.status for login in answered}, {200}, figures)
        self.assertLess(took[len(took) * 95 // 100], 1.0, figures)
        self.assertGreater(len(took), 20, figures)

    def test_same_address(self) -> None:
        """A proven login succeeds within a second while passwords are guessed at its address."""
        self.check(
            self.daemon.port,
            basic("ann", "apple"),
            lambda number: basic(("ann", "bob", f"user{number}")[number % 3], f"guess{number}"),
        )

    def test_unnamed_proxy(self) -> None:
        """A proven login succeeds within a second while they are guessed behind the same unnamed proxy."""
        self.check(
            self.daemon.port,
            basic("ann", "apple") | {"Via": "1.1 proxy"},
            lambda number: basic("ann", f"guess{number}") | {"Via": "1.1 proxy"},
        )

    def test_everywhere(self) -> None:
        """A proven login succeeds within a second while they are guessed from everywhere, for all users."""
        self.check(
            self.proxied_port,
            basic("ann", "apple") | {"X-Forwarded-For": "192.0.2.1"},
            lambda number: (
                basic(f"user{number}", "guess") | {"X-Forwarded-For": f"10.{number % 200}.{number // 200}.1"}
            ),
        )
