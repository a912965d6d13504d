"""What of access lives on over a reload."""

from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mirrord.access.rules import Action
from mirrord.access.state import AccessState
from mirrord.config.hosted import AccessConfig, Principal, RuleConfig
from mirrord.oci.errors import Unauthorized
from tests.unit.access.cases import ANN, BOB, AccessCase, FakeNames, asking, basic, hosted


class AdmissionTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.admission = self.make()
        rule = RuleConfig(("team/*",), pull=(Principal("users"),))
        self.access = AccessConfig(self.file, rules=(rule,))

    def make(self) -> AccessState:
        return AccessState(
            self.folder / "state",
            self.threads,
            self.clock.seconds,
            self.clock.seconds,
            partial(deferLater, self.clock),
        )

    def test_tokens_last(self) -> None:
        """A token is good after a reload, and after a restart."""
        gate = self.admission.gate(self.access, FakeNames())
        token = self.result(gate.grant(asking(basic("ann", "apple")), ())).token
        for admission in (self.admission, self.make()):
            gate = admission.gate(self.access, FakeNames())
            self.assertEqual(self.result(gate.admit(asking(f"Bearer {token}"))).identity.user, "ann")

    def test_failures_last(self) -> None:
        """A reload forgives no guesser."""
        gate = self.admission.gate(self.access, FakeNames())
        for number in range(4):
            self.failure(gate.admit(asking(basic("ann", f"guess{number}"))), Unauthorized)
        gate = self.admission.gate(self.access, FakeNames())
        waiting = Deferred.fromCoroutine(gate.admit(asking(basic("ann", "apple"))))
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.successResultOf(waiting)

    def test_failures_are_counted(self) -> None:
        """Wrong passwords are counted from the start on, whatever file or none is in use by now."""
        self.assertEqual(0, self.admission.failures)
        for number in range(2):
            gate = self.admission.gate(self.access, FakeNames())
            self.result(gate.admit(asking(basic("ann", "apple"))))
            self.failure(gate.admit(asking(basic("ann", f"guess{number}"))), Unauthorized)
        self.admission.gate(None, FakeNames())
        self.assertEqual(2, self.admission.failures)

    def test_reload_reads(self) -> None:
        """A reload reads the users again, whether or not their file has another look."""
        self.admission.gate(self.access, FakeNames())
        self.file.write_text(BOB)
        gate = self.admission.gate(self.access, FakeNames())
        self.failure(gate.admit(asking(basic("ann", "apple"))), Unauthorized)

    def test_other_file(self) -> None:
        """Another file has other users; one that cannot be read is an error."""
        self.admission.gate(self.access, FakeNames())
        other = self.folder / "other"
        other.write_text(BOB)
        gate = self.admission.gate(AccessConfig(other, rules=self.access.rules), FakeNames())
        self.failure(gate.admit(asking(basic("ann", "apple"))), Unauthorized)
        with self.assertRaises(OSError):
            self.admission.gate(AccessConfig(self.folder / "none", rules=self.access.rules), FakeNames())

    def test_trouble(self) -> None:
        """What is wrong with the file in use is told, and nothing where there is none."""
        self.assertIsNone(self.admission.trouble)
        self.admission.gate(self.access, FakeNames())
        self.file.write_text("nonsense")
        self.admission.gate(self.access, FakeNames())
        self.assertIn("line 1 is not USER:HASH", self.admission.trouble or "")
        self.admission.gate(None, FakeNames())
        self.assertIsNone(self.admission.trouble)
        self.file.write_text(ANN)

    def test_no_key_without_need(self) -> None:
        """Where nobody logs in no key is made."""
        gate = self.admission.gate(None, FakeNames())
        self.assertTrue(self.result(gate.admit(asking())).may(Action.PULL, hosted("team/a")))
        self.assertFalse((self.folder / "state").exists())
