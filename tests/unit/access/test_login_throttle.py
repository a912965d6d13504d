"""Login throttling."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.login_throttle import (
    DECAY_SECONDS,
    FREE_ATTEMPTS,
    MAX_DELAY,
    MAX_ENTRIES,
    MAX_FAILURES,
    FailureTable,
    LoginThrottle,
)
from mirrord.oci.errors import TooManyRequests

HERE, THERE = "192.0.2.1", "198.51.100.1"


class LoginThrottleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = LoginThrottle(self.clock.seconds)

    def begin(self, user: str = "ann", network: str = HERE, *, is_known: bool = False) -> float:
        """Begin an attempt, which will fail; return its delay."""
        return self.throttle.begin(user, network, is_known=is_known).delay

    def attempt(self, user: str = "ann", network: str = HERE) -> float:
        """Make a failed attempt after its delay; return the delay."""
        delay = self.begin(user, network)
        self.clock.advance(delay)
        return delay

    def fail_often(self, times: int, network: str = HERE) -> None:
        """Make failed attempts for Ann, each as soon as it may begin."""
        for _ in range(times):
            self.attempt(network=network)

    def succeed(self, user: str = "ann") -> float:
        """Log in, and return the delay."""
        attempt = self.throttle.begin(user, HERE, is_known=False)
        attempt.subtract()
        return attempt.delay

    def test_growth(self) -> None:
        """The first failures are free, later ones are delayed, each for longer, up to a limit."""
        delays = [self.attempt() for _ in range(FREE_ATTEMPTS + 8)]
        self.assertEqual(delays[: FREE_ATTEMPTS + 2], [0.0] * (FREE_ATTEMPTS + 1) + [1.0])
        self.assertEqual(delays, sorted(delays))
        self.assertEqual(delays[-1], MAX_DELAY)

    def test_other_user(self) -> None:
        """An attacker who continues with another user name is still delayed."""
        self.fail_often(8)
        self.assertEqual(self.begin("bob"), MAX_DELAY)

    def test_other_address(self) -> None:
        """An attacker who continues from another address is still delayed for the same user, but no other."""
        self.fail_often(8)
        self.assertEqual(self.begin("ann", THERE), MAX_DELAY)
        self.assertEqual(self.begin("bob", THERE), 0.0)

    def test_known_network(self) -> None:
        """Failures elsewhere do not delay a user at a network from which they have logged in before."""
        self.fail_often(12, network=THERE)
        self.assertEqual(self.begin(is_known=True), 0.0)

    def test_success_forgives_itself(self) -> None:
        """Successful logins are never delayed, however many there are."""
        for _ in range(100):
            self.assertEqual(self.succeed(), 0.0)

    def test_success_forgives_no_other(self) -> None:
        """The owner of an account can neither reset the count nor skip a delay by logging in."""
        for number in range(FREE_ATTEMPTS):
            self.begin(f"user{number}")
            self.succeed("eve")
        self.begin("ann")
        self.assertEqual(self.begin("ann"), 1.0)
        self.succeed("eve")
        self.assertGreater(self.begin("ann"), 1.0)

    def test_success_at_the_limit(self) -> None:
        """A success at the largest count subtracts no more than it added."""
        self.fail_often(MAX_FAILURES * 3)
        for _ in range(MAX_FAILURES):
            self.clock.advance(MAX_DELAY)
            self.succeed("eve")
        self.assertEqual(self.attempt("eve"), 0.0)
        self.assertEqual(self.attempt("eve"), MAX_DELAY)

    def test_at_once(self) -> None:
        """Concurrent attempts are counted together: a few are delayed, the rest rejected."""
        delays: list[float] = []
        refusals = 0
        for _ in range(100):
            try:
                delays.append(self.begin())
            except TooManyRequests as error:
                refusals += 1
                self.assertGreater(error.retry_after_seconds or 0.0, MAX_DELAY)
        self.assertEqual(delays, [0.0] * (FREE_ATTEMPTS + 1) + [1.0, 3.0])
        self.assertEqual(refusals, 94)

    def test_rejections_are_not_counted(self) -> None:
        """A rejected attempt counts for nothing: neither for its network, nor for any user name."""
        for _ in range(FREE_ATTEMPTS + 3):
            self.begin()
        for number in range(1000):
            with self.assertRaises(TooManyRequests):
                self.begin(f"user{number}")
        self.clock.advance(2 * MAX_DELAY)
        self.assertEqual(self.attempt("user1"), 0.0)
        self.clock.advance(DECAY_SECONDS * (FREE_ATTEMPTS + 4))
        self.assertEqual([self.attempt() for _ in range(FREE_ATTEMPTS + 1)], [0.0] * (FREE_ATTEMPTS + 1))

    def test_decay(self) -> None:
        """Failures decay one by one, while others are added."""
        for _ in range(20):
            self.assertEqual(self.attempt(), 0.0)
            self.clock.advance(DECAY_SECONDS)
        self.fail_often(FREE_ATTEMPTS + 2)
        self.clock.advance(2 * DECAY_SECONDS)
        self.assertEqual([self.attempt() for _ in range(2)], [0.0, 1.0])

    def test_decays_completely(self) -> None:
        """However many failures there were, a quarter of an hour later they are forgotten."""
        self.fail_often(100)
        self.clock.advance(MAX_FAILURES * DECAY_SECONDS)
        self.assertEqual([self.attempt() for _ in range(FREE_ATTEMPTS + 1)], [0.0] * (FREE_ATTEMPTS + 1))

    def test_flooded(self) -> None:
        """Failures for thousands of users from thousands of networks make it forget none of the worst."""
        self.fail_often(4, network=THERE)
        self.fail_often(8)
        for number in range(3 * MAX_ENTRIES):
            self.begin(f"user{number}", f"network{number}")
        self.assertEqual(self.begin("bob", HERE), MAX_DELAY)
        self.assertEqual(self.begin("ann", "elsewhere"), MAX_DELAY)

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([HERE, THERE]), st.floats(0, 20))))
    def test_bounded_wait(self, attempts: list[tuple[str, str, float]]) -> None:
        """Whatever was attempted before, delays and Retry-After are short."""
        for user, network, seconds in attempts:
            self.clock.advance(seconds)
            try:
                self.assertLessEqual(self.begin(user, network, is_known=user == "a"), MAX_DELAY)
            except TooManyRequests as error:
                self.assertLess(error.retry_after_seconds or 0.0, 2 * MAX_DELAY + 0.001)


class FailureTableTests(SynchronousTestCase):
    def test_bound(self) -> None:
        """The table never grows beyond its bound, and forgets the smallest counts first."""
        table: FailureTable[str] = FailureTable()
        for number in range(MAX_ENTRIES):
            for _ in range(1 + number % 8):
                table.count(f"old{number}").add(0.0, 0.0)
        for number in range(MAX_ENTRIES // 8):
            table.count(f"new{number}").add(0.0, 0.0)
            self.assertLessEqual(len(table), MAX_ENTRIES)
        kept = [table.count(f"old{number}").zero_at for number in range(7, MAX_ENTRIES, 8)]
        self.assertEqual(set(kept), {8 * DECAY_SECONDS})
