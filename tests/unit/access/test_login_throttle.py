"""Login throttling."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.login_throttle import FREE_ATTEMPTS, MAX_DELAY, MAX_ENTRIES, LoginThrottle
from mirrord.oci.errors import TooManyRequests

HERE, THERE = "192.0.2.1", "198.51.100.1"


class LoginThrottleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = LoginThrottle(self.clock.seconds)

    def attempt(self, user: str = "ann", address: str = HERE) -> float:
        """Make a failed attempt after its delay; return the delay."""
        delay = self.throttle.begin(user, address)
        self.clock.advance(delay)
        return delay

    def fail_often(self, times: int, address: str = HERE) -> None:
        """Make failed attempts for Ann, each as soon as it may begin."""
        for _ in range(times):
            self.attempt(address=address)

    def test_growth(self) -> None:
        """The first failures are free, later ones are delayed, each for longer, up to a limit."""
        delays = [self.attempt() for _ in range(FREE_ATTEMPTS + 8)]
        self.assertEqual(delays[: FREE_ATTEMPTS + 2], [0.0] * (FREE_ATTEMPTS + 1) + [1.0])
        self.assertEqual(delays, sorted(delays))
        self.assertEqual(delays[-1], MAX_DELAY)

    def test_other_user(self) -> None:
        """An attacker who continues with another user name is still delayed."""
        self.fail_often(8)
        self.assertEqual(self.throttle.begin("bob", HERE), MAX_DELAY)

    def test_other_address(self) -> None:
        """An attacker who continues from another address is still delayed for the same user, but no other."""
        self.fail_often(8)
        self.assertEqual(self.throttle.begin("ann", THERE), MAX_DELAY)
        self.assertEqual(self.throttle.begin("bob", THERE), 0.0)

    def test_neighbours(self) -> None:
        """Addresses of one IPv6 network are counted together, those of two networks are not."""
        for number in range(FREE_ATTEMPTS + 1):
            self.throttle.begin(f"user{number}", f"2001:db8::{number}")
        self.assertEqual(self.throttle.begin("ann", "2001:db8::ffff:1"), 1.0)
        self.assertEqual(self.throttle.begin("bob", "2001:db8:0:1::1"), 0.0)

    def test_known_place(self) -> None:
        """Failures elsewhere do not delay a user at a network from which they have logged in before."""
        self.throttle.begin("ann", HERE)
        self.throttle.succeeded("ann", HERE)
        self.fail_often(12, address=THERE)
        self.assertEqual(self.throttle.begin("ann", HERE), 0.0)

    def test_success_forgives_itself(self) -> None:
        """Successful logins are never delayed, however many there are."""
        for _ in range(100):
            self.assertEqual(self.throttle.begin("ann", HERE), 0.0)
            self.throttle.succeeded("ann", HERE)

    def test_success_forgives_no_other(self) -> None:
        """An attacker with an account of their own cannot reset the count by logging in."""
        for number in range(FREE_ATTEMPTS):
            self.throttle.begin(f"user{number}", HERE)
            self.throttle.begin("eve", HERE)
            self.throttle.succeeded("eve", HERE)
        self.throttle.begin("ann", HERE)
        self.assertEqual(self.throttle.begin("ann", HERE), 1.0)

    def test_at_once(self) -> None:
        """Concurrent attempts are counted together: a few are delayed, the rest rejected."""
        delays: list[float] = []
        refusals = 0
        for _ in range(100):
            try:
                delays.append(self.throttle.begin("ann", HERE))
            except TooManyRequests as error:
                refusals += 1
                self.assertGreater(error.retry_after_seconds or 0.0, MAX_DELAY)
        self.assertEqual(delays, [0.0] * (FREE_ATTEMPTS + 1) + [1.0, 3.0])
        self.assertEqual(refusals, 94)

    def test_attack(self) -> None:
        """Many failed attempts are distinguished from a few mistakes."""
        self.fail_often(FREE_ATTEMPTS)
        self.assertFalse(self.throttle.is_under_attack(HERE))
        self.fail_often(20)
        self.assertTrue(self.throttle.is_under_attack(HERE))
        self.assertFalse(self.throttle.is_under_attack(THERE))

    def test_forgotten(self) -> None:
        """Failures expire after a quarter of an hour without another."""
        self.fail_often(8)
        self.clock.advance(900)
        self.assertEqual(self.attempt(), 0.0)

    def test_bound(self) -> None:
        """The counts are bounded in number: the least recently used are evicted."""
        self.fail_often(8)
        for number in range(MAX_ENTRIES // 2):
            self.throttle.begin(f"user{number}", f"2001:db8:0:{number:x}::1")
        self.assertEqual(self.attempt(), 0.0)

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([HERE, THERE]), st.floats(0, 20))))
    def test_bounded_wait(self, attempts: list[tuple[str, str, float]]) -> None:
        """Whatever was attempted before, delays and Retry-After are short."""
        for user, address, seconds in attempts:
            self.clock.advance(seconds)
            try:
                self.assertLessEqual(self.throttle.begin(user, address), MAX_DELAY)
            except TooManyRequests as error:
                self.assertLess(error.retry_after_seconds or 0.0, 2 * MAX_DELAY + 0.001)
