"""Access state that survives a configuration reload."""

from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mirrord.access.rules import Action
from mirrord.access.state import AccessState
from mirrord.config.access import AccessConfig, Principal, RuleConfig
from mirrord.oci.errors import Unauthorized
from tests.fakes.configurations import configuration
from tests.unit.access.cases import ANN, BOB, AccessCase, basic, hosted, identity, resolve_scope


class AccessStateTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.state = self.make()
        rule = RuleConfig(repositories=("team/*",), pull=(Principal("users"),))
        self.access = AccessConfig(self.file, rules=(rule,))
        self.config = configuration(self.access)

    def make(self) -> AccessState:
        return AccessState(
            folder=self.folder / "state",
            run_in_thread=self.threads.run,
            clock=self.clock.seconds,
            wall_clock=self.clock.seconds,
            sleep=partial(deferLater, self.clock),
        )

    def test_tokens_last(self) -> None:
        """A token remains valid after a reload, and after a restart."""
        authenticator = self.state.authenticator(self.config, resolve_scope)
        token = self.result(authenticator.issue_token(identity(basic("ann", "apple")), ())).token
        for state in (self.state, self.make()):
            authenticator = state.authenticator(self.config, resolve_scope)
            self.assertEqual(self.result(authenticator.authenticate(identity(f"Bearer {token}"))).user, "ann")

    def test_failures_last(self) -> None:
        """A reload does not reset the login throttle."""
        authenticator = self.state.authenticator(self.config, resolve_scope)
        for number in range(4):
            self.failure(authenticator.authenticate(identity(basic("ann", f"guess{number}"))), Unauthorized)
        authenticator = self.state.authenticator(self.config, resolve_scope)
        waiting = Deferred.fromCoroutine(authenticator.authenticate(identity(basic("ann", "apple"))))
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.successResultOf(waiting)

    def test_failures_are_counted(self) -> None:
        """Wrong passwords are counted since the start, whatever file is in use now."""
        self.assertEqual(0, self.state.failed_logins)
        for number in range(2):
            authenticator = self.state.authenticator(self.config, resolve_scope)
            self.result(authenticator.authenticate(identity(basic("ann", "apple"))))
            self.failure(authenticator.authenticate(identity(basic("ann", f"guess{number}"))), Unauthorized)
        self.state.authenticator(configuration(), resolve_scope)
        self.assertEqual(2, self.state.failed_logins)

    def test_reload_reads(self) -> None:
        """A reload reads the file of users again, even where its status is unchanged."""
        self.state.authenticator(self.config, resolve_scope)
        self.file.write_text(BOB)
        authenticator = self.state.authenticator(self.config, resolve_scope)
        self.failure(authenticator.authenticate(identity(basic("ann", "apple"))), Unauthorized)

    def test_other_file(self) -> None:
        """The users of another file replace the previous ones; an unreadable file is an error."""
        self.state.authenticator(self.config, resolve_scope)
        other = self.folder / "other"
        other.write_text(BOB)
        config = configuration(AccessConfig(other, rules=self.access.rules))
        authenticator = self.state.authenticator(config, resolve_scope)
        self.failure(authenticator.authenticate(identity(basic("ann", "apple"))), Unauthorized)
        config = configuration(AccessConfig(self.folder / "none", rules=self.access.rules))
        with self.assertRaises(OSError):
            self.state.authenticator(config, resolve_scope)

    def test_problem(self) -> None:
        """The error of the file in use is reported, and none where no file is in use."""
        self.assertIsNone(self.state.problem)
        self.state.authenticator(self.config, resolve_scope)
        self.file.write_text("nonsense")
        self.state.authenticator(self.config, resolve_scope)
        self.assertIn("line 1 is not USER:HASH", self.state.problem or "")
        self.state.authenticator(configuration(), resolve_scope)
        self.assertIsNone(self.state.problem)
        self.file.write_text(ANN)

    def test_no_key_without_users(self) -> None:
        """Without users no key is generated."""
        authenticator = self.state.authenticator(configuration(), resolve_scope)
        self.assertTrue(
            self.result(authenticator.authenticate(identity())).is_allowed(Action.PULL, hosted("team/a"))
        )
        self.assertFalse((self.folder / "state").exists())
