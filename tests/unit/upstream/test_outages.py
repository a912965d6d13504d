"""Tests of mirrord/upstream/outages.py."""

from random import Random

from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.events import Event
from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import UpstreamBusy, UpstreamRefused, UpstreamUnreachable
from mirrord.upstream.circuit import Circuit
from mirrord.upstream.outages import OutageLogger
from tests.fakes.logged import Logged
from tests.unit.upstream.cases import HEAD, ClientTestCase
from tests.unit.upstream.scripted import Reply


class OutageTests(SynchronousTestCase):
    """An upstream that fails and recovers."""

    def setUp(self) -> None:
        self.clock, self.circuit = Clock(), Circuit(Random(1))
        self.outages = OutageLogger("docker.io", self.circuit, self.clock)
        self.logged = Logged.during(self, "mirrord.upstream.outages")

    def limit(self, *, manifest_gets_only: bool) -> None:
        now = self.clock.seconds()
        ticket = self.circuit.admit(now, is_manifest_get=True)
        seconds = ticket.limited(now, 10.0, manifest_gets_only=manifest_gets_only)
        self.outages.opened(
            "over its limit", seconds, Event.UPSTREAM_LIMITED, manifest_gets_only=manifest_gets_only
        )

    def succeed(self, *, is_manifest_get: bool) -> None:
        self.circuit.admit(self.clock.seconds(), is_manifest_get=is_manifest_get).succeeded()
        self.outages.log_recovery()

    def test_once(self) -> None:
        """An outage is logged when it begins and when it ends; failed probes are logged at debug level."""
        self.limit(manifest_gets_only=False)
        for _ in range(3):
            self.clock.advance(11)
            self.limit(manifest_gets_only=False)
            self.outages.log_recovery()
        self.clock.advance(11)
        self.succeed(is_manifest_get=False)
        self.outages.log_recovery()

        self.assertEqual(
            [
                ("warn", Event.UPSTREAM_LIMITED),
                *[("debug", Event.UPSTREAM_LIMITED)] * 3,
                ("info", Event.UPSTREAM_RECOVERED),
            ],
            [(entry.level, entry.event) for entry in self.logged.entries],
        )
        self.assertEqual(
            "docker.io: over its limit; circuit open for all requests for 10.0 s", self.logged.messages[0]
        )
        self.assertEqual("docker.io: circuit closed for all requests after 44.0 s", self.logged.messages[-1])
        self.assertEqual({"upstream": "docker.io", "seconds": 44.0}, self.logged.entries[-1].fields)

    def test_manifests(self) -> None:
        """A pull limit ends with the response to a manifest GET, not to other requests."""
        self.limit(manifest_gets_only=True)
        self.clock.advance(11)
        self.succeed(is_manifest_get=False)
        self.assertEqual(1, len(self.logged.entries))

        self.succeed(is_manifest_get=True)
        self.assertIn("circuit closed for manifest requests", self.logged.messages[-1])

    def test_next(self) -> None:
        """The next outage is logged again."""
        for _ in range(2):
            self.limit(manifest_gets_only=False)
            self.clock.advance(11)
            self.succeed(is_manifest_get=False)
        self.assertEqual(["warn", "info"] * 2, [entry.level for entry in self.logged.entries])


class ClientTests(ClientTestCase):
    """The log and the metrics of a client whose upstream fails."""

    def setUp(self) -> None:
        self.logged = Logged.during(self, "mirrord.upstream")
        self.metrics = Metrics(["registry.example"])

    def retries(self) -> float | None:
        labels = {"upstream": "registry.example"}
        return self.metrics.registry.get_sample_value("mirrord_upstream_retries_total", labels)

    def test_circuit(self) -> None:
        """Failures are logged when they open the circuit, the recovery when a response closes it."""
        self.use(Refused(), Refused(), Refused(), HEAD)
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        self.clock.advance(6)
        self.result(self.resolve())

        failing, over = self.logged.entries
        self.assertEqual(("warn", Event.UPSTREAM_FAILING), (failing.level, failing.event))
        self.assertIn("registry.example: the upstream cannot be reached: connection refused", failing.message)
        self.assertEqual(("info", Event.UPSTREAM_RECOVERED), (over.level, over.event))

    def test_limit(self) -> None:
        """A 429 on a manifest GET is logged as a limit of manifest requests."""
        self.use(Reply(429, {"Retry-After": "60"}), HEAD)
        self.failure(self.fetch(), UpstreamBusy)
        self.result(self.resolve())

        (limited,) = self.logged.entries
        self.assertEqual(Event.UPSTREAM_LIMITED, limited.event)
        self.assertIn("circuit open for manifest requests for 60.0 s", limited.message)

    def test_retries(self) -> None:
        """Retries after a failure and resumed blobs are counted."""
        self.use(Reply(503), HEAD, Reply(503), Reply(503), metrics=self.metrics)
        resolving = self.begin(self.resolve(attempts=3))
        self.assertEqual(0.0, self.retries())
        self.clock.advance(1)
        self.successResultOf(resolving)
        self.assertEqual(1.0, self.retries())

        self.failure(self.blob(), UpstreamRefused)
        self.assertEqual(1.0, self.retries())
        self.failure(self.blob(offset=5), UpstreamRefused)
        self.assertEqual(2.0, self.retries())
