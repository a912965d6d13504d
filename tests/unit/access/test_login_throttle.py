"""How often a password may be tried."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.login_throttle import FREE_ATTEMPTS, LONGEST_WAIT, LoginThrottle
from mirrord.oci.errors import TooManyRequests

HERE, THERE = "192.0.2.1", "198.51.100.1"


class AttemptsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts = LoginThrottle(self.clock.seconds)

    def be_wrong(self, user: str = "ann", address: str = HERE) -> float:
        """A wrong password, for which one waits as one has to; for how long."""
        wait = self.attempts.begin(user, address)
        self.clock.advance(wait)
        return wait

    def fail_often(self, times: int, address: str = HERE) -> None:
        """Wrong passwords for Ann, as fast as they are taken."""
        for _ in range(times):
            self.be_wrong(address=address)

    def test_growth(self) -> None:
        """The first mistakes are free, the next ones are waited for, each for longer, up to a limit."""
        waits = [self.be_wrong() for _ in range(FREE_ATTEMPTS + 8)]
        self.assertEqual(waits[: FREE_ATTEMPTS + 2], [0.0] * (FREE_ATTEMPTS + 1) + [1.0])
        self.assertEqual(waits, sorted(waits))
        self.assertEqual(waits[-1], LONGEST_WAIT)

    def test_other_user(self) -> None:
        """A guesser who goes on to another user's name still waits."""
        self.fail_often(8)
        self.assertEqual(self.attempts.begin("bob", HERE), LONGEST_WAIT)

    def test_other_address(self) -> None:
        """A guesser who goes on from another address still waits for the same user, and for no other."""
        self.fail_often(8)
        self.assertEqual(self.attempts.begin("ann", THERE), LONGEST_WAIT)
        self.assertEqual(self.attempts.begin("bob", THERE), 0.0)

    def test_neighbours(self) -> None:
        """Addresses of one IPv6 network count as one, those of two do not."""
        for number in range(FREE_ATTEMPTS + 1):
            self.attempts.begin(f"user{number}", f"2001:db8::{number}")
        self.assertEqual(self.attempts.begin("ann", "2001:db8::ffff:1"), 1.0)
        self.assertEqual(self.attempts.begin("bob", "2001:db8:0:1::1"), 0.0)

    def test_known_place(self) -> None:
        """Where a user has been let in before, strangers' failures elsewhere do not hold them up."""
        self.attempts.begin("ann", HERE)
        self.attempts.succeeded("ann", HERE)
        self.fail_often(12, address=THERE)
        self.assertEqual(self.attempts.begin("ann", HERE), 0.0)

    def test_success_forgives_itself(self) -> None:
        """Right passwords are never waited for, however many there are."""
        for _ in range(100):
            self.assertEqual(self.attempts.begin("ann", HERE), 0.0)
            self.attempts.succeeded("ann", HERE)

    def test_success_forgives_no_other(self) -> None:
        """A guesser with an account of their own cannot wipe out failures by logging in."""
        for number in range(FREE_ATTEMPTS):
            self.attempts.begin(f"user{number}", HERE)
            self.attempts.begin("eve", HERE)
            self.attempts.succeeded("eve", HERE)
        self.attempts.begin("ann", HERE)
        self.assertEqual(self.attempts.begin("ann", HERE), 1.0)

    def test_at_once(self) -> None:
        """Attempts that begin together are counted together: a few wait in turn, the rest come again."""
        waits: list[float] = []
        refusals = 0
        for _ in range(100):
            try:
                waits.append(self.attempts.begin("ann", HERE))
            except TooManyRequests as error:
                refusals += 1
                self.assertGreater(error.retry_after_seconds or 0.0, LONGEST_WAIT)
        self.assertEqual(waits, [0.0] * (FREE_ATTEMPTS + 1) + [1.0, 3.0])
        self.assertEqual(refusals, 94)

    def test_pressing(self) -> None:
        """Many attempts that nobody waited for are told from a few mistakes."""
        self.fail_often(FREE_ATTEMPTS)
        self.assertFalse(self.attempts.is_pressing(HERE))
        self.fail_often(20)
        self.assertTrue(self.attempts.is_pressing(HERE))
        self.assertFalse(self.attempts.is_pressing(THERE))

    def test_forgotten(self) -> None:
        """After a quarter of an hour of quiet nothing is held against anybody."""
        self.fail_often(8)
        self.clock.advance(900)
        self.assertEqual(self.be_wrong(), 0.0)

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([HERE, THERE]), st.floats(0, 20))))
    def test_bounded_wait(self, attempts: list[tuple[str, str, float]]) -> None:
        """Whatever was tried before, nobody is kept waiting, or sent away, for long."""
        for user, address, seconds in attempts:
            self.clock.advance(seconds)
            try:
                self.assertLessEqual(self.attempts.begin(user, address), LONGEST_WAIT)
            except TooManyRequests as error:
                self.assertLessEqual(error.retry_after_seconds or 0.0, 2 * LONGEST_WAIT)
