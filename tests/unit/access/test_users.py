"""Users and their passwords, by a file that changes."""

from twisted.internet.defer import Deferred

from mirrord.access.users import BELIEVED_SECONDS, LOOK_SECONDS, MAX_CHECKING
from mirrord.oci.errors import TooManyRequests
from tests.unit.access.cases import ADDRESS, ANN, BOB, AccessCase, hashed


class CheckTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = self.load()

    def check(self, username: str, password: str, address: str = ADDRESS) -> bool:
        return self.result(self.users.check(username, password, address))

    def test_passwords(self) -> None:
        """The user's own password is right, and no other."""
        self.assertTrue(self.check("ann", "apple"))
        for username, password in (("ann", "berry"), ("ann", ""), ("carl", "apple"), ("", "")):
            self.assertFalse(self.check(username, password, f"{username}{password}"))

    def test_off_the_reactor(self) -> None:
        """A password is checked in a thread, an unknown user's as well."""
        self.threads.is_eager = False
        for username in ("ann", "carl"):
            checking = Deferred.fromCoroutine(self.users.check(username, "apple", ADDRESS))
            self.assertNoResult(checking)
            self.threads.work()
            self.assertEqual(self.successResultOf(checking), username == "ann")

    def test_believed(self) -> None:
        """A password that was right is not checked again for five minutes."""
        for _ in range(50):
            self.assertTrue(self.check("ann", "apple"))
        self.assertEqual(self.threads.calls, 1)
        self.clock.advance(BELIEVED_SECONDS)
        self.assertTrue(self.check("ann", "apple"))
        self.assertEqual(self.threads.calls, 2)

    def test_believed_there_only(self) -> None:
        """A password that was right at one address is checked at another, so no memory answers a guess."""
        self.check("ann", "apple")
        self.check("ann", "apple", "198.51.100.1")
        self.assertEqual(self.threads.calls, 2)

    def test_guessed_beside_its_user(self) -> None:
        """Where somebody guesses, not even the right password is believed from memory."""
        self.check("ann", "apple")
        for number in range(40):
            self.attempt("ann", f"guess{number}")
        self.failure(self.users.check("ann", "apple", ADDRESS), TooManyRequests)

    def attempt(self, username: str, password: str) -> None:
        done = Deferred.fromCoroutine(self.users.check(username, password, ADDRESS))
        done.addErrback(lambda failure: failure.trap(TooManyRequests))

    def test_together(self) -> None:
        """Requests of one client that bring the same password wait for one check."""
        self.threads.is_eager = False
        checks = [Deferred.fromCoroutine(self.users.check("ann", "apple", ADDRESS)) for _ in range(10)]
        checks[0].cancel()
        self.failureResultOf(checks[0])
        self.threads.work()
        self.assertEqual([self.successResultOf(check) for check in checks[1:]], [True] * 9)
        self.assertEqual(self.threads.calls, 1)

    def test_bounded(self) -> None:
        """Only so many passwords are checked or wait for it; who comes then is told to come again."""
        self.threads.is_eager = False
        for number in range(MAX_CHECKING):
            checking = Deferred.fromCoroutine(self.users.check(f"user{number}", "x", f"10.0.0.{number}"))
            self.assertNoResult(checking)
        error = self.failure(self.users.check("ann", "apple", ADDRESS), TooManyRequests)
        self.assertEqual(error.retry_after_seconds, 1)
        self.threads.work()
        self.threads.is_eager = True
        self.assertTrue(self.check("ann", "apple"))

    def test_slowed(self) -> None:
        """After some wrong passwords it takes a while before the next is looked at."""
        for number in range(4):
            self.assertFalse(self.check("ann", f"guess{number}"))
        checking = Deferred.fromCoroutine(self.users.check("ann", "apple", ADDRESS))
        self.clock.advance(0.9)
        self.assertNoResult(checking)
        self.assertEqual(self.threads.calls, 4)
        self.clock.advance(0.1)
        self.assertTrue(self.successResultOf(checking))

    def test_long_password(self) -> None:
        """Of a long password the first 72 bytes count, as when htpasswd hashed it."""
        self.file.write_text(f"ann:{hashed('x' * 72)}\n")
        self.users.reload()
        self.assertTrue(self.check("ann", "x" * 100))
        self.assertFalse(self.check("ann", "x" * 71))

    def test_decoy_costs_the_same(self) -> None:
        """Who is no user is checked against a hash of the cost that the file's users have."""
        cost = self.users._hashes["ann"][4:6]
        self.assertEqual(self.users._decoy[:7], b"$2b$%b$" % cost)

    def test_no_secret(self) -> None:
        """Neither a password nor a hash is in what repr shows or the log says."""
        self.check("ann", "grape")
        said = repr(self.users) + repr([*self.flushLoggedErrors()])
        self.assertNotIn("$2b$", said)
        self.assertNotIn("grape", said)


class FileTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = self.load()

    def rewrite(self, text: str) -> None:
        """Another file in its place, a while later."""
        scratch = self.file.with_suffix(".new")
        scratch.write_text(text)
        scratch.replace(self.file)
        self.clock.advance(LOOK_SECONDS)

    def check(self, username: str, password: str) -> bool:
        return self.result(self.users.check(username, password, ADDRESS))

    def test_changed(self) -> None:
        """A file that changes is read again within a second."""
        self.assertTrue(self.check("ann", "apple"))
        self.rewrite(BOB + f"carl:{hashed('cherry')}\n")
        self.assertFalse(self.users.has("ann"))
        self.assertFalse(self.check("ann", "apple"))
        self.assertTrue(self.check("carl", "cherry"))

    def test_new_password(self) -> None:
        """With a new password the old one is right no longer, though it was a moment ago."""
        self.assertTrue(self.check("ann", "apple"))
        self.rewrite(f"ann:{hashed('apricot')}\n")
        self.assertFalse(self.check("ann", "apple"))
        self.assertTrue(self.check("ann", "apricot"))

    def test_broken(self) -> None:
        """A file that cannot be used changes nothing, is told of until it is well, and holds no secret."""
        self.rewrite("ann:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n")
        self.assertTrue(self.users.has("bob"))
        self.assertTrue(self.check("ann", "apple"))
        self.assertIn("the password of ann is not hashed by bcrypt", self.users.trouble or "")
        self.assertNotIn("0DPiKuN", self.users.trouble or "")
        self.rewrite(ANN)
        self.assertFalse(self.users.has("bob"))
        self.assertIsNone(self.users.trouble)

    def test_gone(self) -> None:
        """A file that is gone changes nothing until it is back."""
        self.file.unlink()
        self.clock.advance(LOOK_SECONDS)
        self.assertTrue(self.users.has("ann"))
        self.assertIn("No such file", self.users.trouble or "")
        self.rewrite(BOB)
        self.assertFalse(self.users.has("ann"))

    def test_not_looked_at_always(self) -> None:
        """The file is looked at once a second, however many ask."""
        self.file.write_text(BOB)
        self.assertTrue(self.users.has("ann"))
        self.clock.advance(LOOK_SECONDS)
        self.assertFalse(self.users.has("ann"))

    def test_cannot_be_loaded(self) -> None:
        """A file that is wrong from the start is an error that names it."""
        self.file.write_text("ann\n")
        with self.assertRaises(OSError) as caught:
            self.load()
        self.assertIn("htpasswd: line 1 is not USER:HASH", str(caught.exception))
