"""Users and their passwords in a file that changes."""

import bcrypt
from twisted.internet.defer import Deferred

from mirrord.access.proven_logins import PROVEN_SECONDS
from mirrord.access.users import MAX_CHECKS, RESERVED_CHECKS, STAT_SECONDS
from mirrord.oci.errors import TooManyRequests
from tests.unit.access.cases import ADDRESS, ANN, BOB, AccessCase, hashed


class CheckTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = self.load()

    def check(self, username: str, password: str, address: str = ADDRESS) -> bool:
        return self.result(self.users.check(username, password, address)) is not None

    def test_passwords(self) -> None:
        """Only the user's own password is correct."""
        self.assertTrue(self.check("ann", "apple"))
        for username, password in (("ann", "berry"), ("ann", ""), ("carl", "apple"), ("", "")):
            self.assertFalse(self.check(username, password, f"{username}{password}"))

    def test_off_the_reactor(self) -> None:
        """A password is checked in a thread, for an unknown user as well."""
        self.threads.is_eager = False
        for username in ("ann", "carl"):
            checking = Deferred.fromCoroutine(self.users.check(username, "apple", ADDRESS))
            self.assertNoResult(checking)
            self.threads.work()
            self.assertEqual(self.successResultOf(checking) is not None, username == "ann")

    def test_remembered(self) -> None:
        """A correct password is not checked again for an hour after its last use."""
        for _ in range(50):
            self.assertTrue(self.check("ann", "apple"))
            self.clock.advance(PROVEN_SECONDS - 1)
        self.assertEqual(self.threads.calls, 1)
        self.clock.advance(1)
        self.assertTrue(self.check("ann", "apple"))
        self.assertEqual(self.threads.calls, 2)

    def test_remembered_by_network(self) -> None:
        """A password that was correct in one network is checked again in another; IPv6 counts by /64."""
        for address, calls in (
            (ADDRESS, 1),
            ("198.51.100.1", 2),
            ("2001:db8::1", 3),
            ("2001:db8::2", 3),
            ("2001:db8:0:1::1", 4),
            ("", 5),
        ):
            self.check("ann", "apple", address)
            self.assertEqual(self.threads.calls, calls, address)

    def test_guessed_in_the_same_network(self) -> None:
        """A remembered password is accepted at once while others are guessed in its network, for any user."""
        for address in (ADDRESS, ""):
            self.check("ann", "apple", address)
            for number in range(1000):
                self.attempt(("ann", "bob", f"user{number}")[number % 3], f"guess{number}", address)
                self.clock.advance(0.01)
                self.assertTrue(self.check("ann", "apple", address))
            self.failure(self.users.check("bob", "berry", address), TooManyRequests)

    def attempt(self, username: str, password: str, address: str = ADDRESS) -> None:
        done = Deferred.fromCoroutine(self.users.check(username, password, address))
        done.addErrback(lambda failure: failure.trap(TooManyRequests))

    def test_flooded_checks(self) -> None:
        """Wrong passwords from everywhere leave checks for users who have logged in from there before."""
        self.check("ann", "apple")
        self.clock.advance(PROVEN_SECONDS)
        self.threads.is_eager = False
        for number in range(100):
            self.attempt(f"user{number}", "x", f"10.0.0.{number}")
        self.failure(self.users.check("bob", "berry", ADDRESS), TooManyRequests)
        checking = Deferred.fromCoroutine(self.users.check("ann", "apple", ADDRESS))
        self.assertNoResult(checking)
        self.threads.work()
        self.assertIsNotNone(self.successResultOf(checking))

    def test_unchecked_is_not_counted(self) -> None:
        """An attempt that is rejected because too many are being checked does not count as a failure."""
        self.threads.is_eager = False
        for number in range(MAX_CHECKS):
            self.attempt(f"user{number}", "x", f"10.0.0.{number}")
        for _ in range(50):
            self.failure(self.users.check("ann", "apple", ADDRESS), TooManyRequests)
        self.threads.work()
        self.threads.is_eager = True
        self.assertTrue(self.check("ann", "apple"))

    def test_checked_against(self) -> None:
        """The result is the hash that was checked against, even if the file has changed meanwhile."""
        before = self.users.password_hash("ann")
        self.threads.is_eager = False
        checking = Deferred.fromCoroutine(self.users.check("ann", "apple", ADDRESS))
        self.file.write_text(f"ann:{hashed('apricot')}\n")
        self.users.reload()
        self.threads.work()
        self.assertEqual(self.successResultOf(checking), before)
        self.threads.is_eager = True
        self.assertFalse(self.check("ann", "apple"))

    def test_together(self) -> None:
        """Concurrent requests of one client with the same password share one check."""
        self.threads.is_eager = False
        checks = [Deferred.fromCoroutine(self.users.check("ann", "apple", ADDRESS)) for _ in range(10)]
        checks[0].cancel()
        self.failureResultOf(checks[0])
        self.threads.work()
        self.assertNotIn(None, [self.successResultOf(check) for check in checks[1:]])
        self.assertEqual(self.threads.calls, 1)

    def test_bounded(self) -> None:
        """The number of concurrent checks is bounded; further logins are rejected with Retry-After."""
        self.threads.is_eager = False
        for number in range(MAX_CHECKS - RESERVED_CHECKS):
            checking = Deferred.fromCoroutine(self.users.check(f"user{number}", "x", f"10.0.0.{number}"))
            self.assertNoResult(checking)
        error = self.failure(self.users.check("ann", "apple", ADDRESS), TooManyRequests)
        self.assertEqual(error.retry_after_seconds, 1)
        self.threads.work()
        self.threads.is_eager = True
        self.assertTrue(self.check("ann", "apple"))

    def test_throttled(self) -> None:
        """After several wrong passwords the next check is delayed."""
        for number in range(4):
            self.assertFalse(self.check("ann", f"guess{number}"))
        checking = Deferred.fromCoroutine(self.users.check("ann", "apple", ADDRESS))
        self.clock.advance(0.9)
        self.assertNoResult(checking)
        self.assertEqual(self.threads.calls, 4)
        self.clock.advance(0.1)
        self.assertIsNotNone(self.successResultOf(checking))

    def test_long_password(self) -> None:
        """Only the first 72 bytes of a password count, as when htpasswd hashed it."""
        self.file.write_text(f"ann:{hashed('x' * 72)}\n")
        self.users.reload()
        self.assertTrue(self.check("ann", "x" * 100))
        self.assertFalse(self.check("ann", "x" * 71))

    def test_decoy_costs_the_same(self) -> None:
        """An unknown user's password is checked against a hash of the cost that the file's users have."""
        compared: list[bytes] = []
        checkpw = bcrypt.checkpw

        def record(password: bytes, hashed_password: bytes) -> bool:
            compared.append(hashed_password)
            return checkpw(password, hashed_password)

        self.patch(bcrypt, "checkpw", record)
        for username in ("ann", "carl"):
            self.assertFalse(self.check(username, "grape", username))
        self.assertRegex(compared[0], rb"^\$2b\$04\$")
        self.assertEqual(compared[1][:7], compared[0][:7])

    def test_no_secret(self) -> None:
        """Neither a password nor a hash is in the repr or the log."""
        self.check("ann", "grape")
        shown = repr(self.users) + repr([*self.flushLoggedErrors()])
        self.assertNotIn("$2b$", shown)
        self.assertNotIn("grape", shown)


class FileTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = self.load()

    def rewrite(self, text: str) -> None:
        """Replace the file, and wait until it is checked for changes."""
        scratch = self.file.with_suffix(".new")
        scratch.write_text(text)
        scratch.replace(self.file)
        self.clock.advance(STAT_SECONDS)

    def check(self, username: str, password: str) -> bool:
        return self.result(self.users.check(username, password, ADDRESS)) is not None

    def has(self, username: str) -> bool:
        return self.users.password_hash(username) is not None

    def test_changed(self) -> None:
        """A changed file is read again within a second."""
        self.assertTrue(self.check("ann", "apple"))
        self.rewrite(BOB + f"carl:{hashed('cherry')}\n")
        self.assertFalse(self.has("ann"))
        self.assertFalse(self.check("ann", "apple"))
        self.assertTrue(self.check("carl", "cherry"))

    def test_new_password(self) -> None:
        """A changed password invalidates the old one, although it was cached."""
        self.assertTrue(self.check("ann", "apple"))
        self.rewrite(f"ann:{hashed('apricot')}\n")
        self.assertFalse(self.check("ann", "apple"))
        self.assertTrue(self.check("ann", "apricot"))

    def test_broken(self) -> None:
        """A file with an error changes nothing; the error is reported without secrets."""
        self.rewrite("ann:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n")
        self.assertTrue(self.has("bob"))
        self.assertTrue(self.check("ann", "apple"))
        self.assertIn("the password of ann is not hashed by bcrypt", self.users.problem or "")
        self.assertNotIn("0DPiKuN", self.users.problem or "")
        self.rewrite(ANN)
        self.assertFalse(self.has("bob"))
        self.assertIsNone(self.users.problem)

    def test_gone(self) -> None:
        """A missing file changes nothing until it is back."""
        self.file.unlink()
        self.clock.advance(STAT_SECONDS)
        self.assertTrue(self.has("ann"))
        self.assertIn("No such file", self.users.problem or "")
        self.rewrite(BOB)
        self.assertFalse(self.has("ann"))

    def test_checked_once_a_second(self) -> None:
        """The file is checked for changes once a second, however many requests there are."""
        self.file.write_text(BOB)
        self.assertTrue(self.has("ann"))
        self.clock.advance(STAT_SECONDS)
        self.assertFalse(self.has("ann"))

    def test_cannot_be_loaded(self) -> None:
        """A file with an error at the start raises an error that names it."""
        self.file.write_text("ann\n")
        with self.assertRaises(OSError) as caught:
            self.load()
        self.assertIn("htpasswd: line 1 is not USER:HASH", str(caught.exception))
