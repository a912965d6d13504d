"""Tests of mirrord/upstream/api.py, over a network in memory."""

from random import Random

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.events import Event
from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import (
    AccountRefused,
    CircuitOpen,
    Denied,
    ManifestUnknown,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from mirrord.upstream.api import OutageLogger
from mirrord.upstream.circuit import Circuit, CircuitState
from tests.fakes.logged import Logged
from tests.unit.upstream.cases import CDN, HEAD, ClientTestCase
from tests.unit.upstream.scripted import (
    HOME,
    ME,
    REALM,
    FakeResponse,
    Hang,
    Reply,
    challenge,
    token,
)


class CircuitTests(ClientTestCase):
    def test_opens(self) -> None:
        """After three failures requests are rejected without being sent, and the upstream is degraded."""
        self.use(Refused(), Refused(), Refused())
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        error = self.failure(self.blob(), CircuitOpen)

        self.assertTrue(0 < error.retry_after_seconds <= 5)
        self.assertTrue(self.client.is_degraded(of_manifests=False))
        self.assertEqual(CircuitState.OPEN, self.client.status().others)

    def test_error_bodies_are_no_progress(self) -> None:
        """The body of an error or of a redirect is not progress: three failures open the circuit."""
        lost = [Reply(307, {"Location": CDN}, b"there"), Refused()]
        for script in ([Reply(503, {}, b"{}")] * 3, lost * 3):
            self.use(*script)
            for _ in range(3):
                self.failure(self.blob(), UpstreamError)
            self.failure(self.blob(), CircuitOpen)

    def test_blob_is_progress(self) -> None:
        """While bytes of a blob arrive, failures of other requests do not open the circuit."""
        self.use(Hang(), Refused(), Refused(), Refused(), HEAD)
        fetching = self.begin(self.blob())
        response = FakeResponse(Reply(200, {}, b"blob"), is_whole=False)
        self.agent.pending[0].callback(response)
        self.successResultOf(fetching)
        for _ in range(2):
            self.failure(self.resolve(), UpstreamUnreachable)
        self.client.mark_degraded()
        response.protocol.dataReceived(b"b")
        self.assertTrue(self.client.is_degraded(of_manifests=True))
        self.failure(self.resolve(), UpstreamUnreachable)

        self.result(self.resolve())
        self.assertFalse(self.client.is_degraded(of_manifests=True))

    def test_cancelled_probe(self) -> None:
        """A probe that is cancelled does not block the next request."""
        self.use(Refused(), Refused(), Refused(), Hang(), HEAD)
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        self.clock.advance(5)
        probing = self.begin(self.resolve())
        probing.cancel()
        self.failureResultOf(probing, CancelledError)
        self.result(self.resolve())

    def test_denied_by_the_token_service(self) -> None:
        """A denial by the token service is neither success nor failure of the registry."""
        self.use(challenge(), token(), HEAD, *[Refused()] * 3, Reply(403), challenge(), Reply(403), HEAD)
        self.result(self.resolve())
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        self.clock.advance(60)
        self.client.mark_degraded()
        self.failure(self.resolve(), Denied)

        self.assertEqual(CircuitState.PROBING, self.client.status().others)
        self.assertTrue(self.client.is_degraded(of_manifests=True))
        self.result(self.resolve())
        self.assertEqual(CircuitState.CLOSED, self.client.status().others)

    def test_names_that_the_token_service_rejects(self) -> None:
        """A token service's 400, 401, 403 or 404 for some repositories leaves the others reachable."""
        for status in (400, 401, 403, 404):
            self.use()
            for _ in range(10):
                self.agent.add(challenge(), Reply(status))
                self.failure(self.resolve(attempts=3), Denied)
            self.assertEqual(20, len(self.agent.requests))

            self.assertEqual(CircuitState.CLOSED, self.client.status().others)
            self.assertFalse(self.client.is_degraded(of_manifests=True))
            self.agent.add(challenge(), token(), HEAD)
            self.result(self.resolve())

    def test_failing_token_service(self) -> None:
        """A token service that fails for all repositories opens the circuit."""
        self.use()
        self.agent.always = lambda request: Reply(500) if request.url.startswith(REALM) else challenge()
        for _ in range(3):
            resolving = self.begin(self.resolve())
            self.clock.pump([1, 1])
            self.failureResultOf(resolving, UpstreamRefused)
        self.failure(self.resolve(), CircuitOpen)

    def test_recovers(self) -> None:
        """When its time is over the circuit admits one request, whose response closes it."""
        self.use(Refused(), Refused(), Refused(), HEAD, HEAD)
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        self.clock.advance(5)
        self.result(self.resolve())
        self.result(self.resolve())

    def test_pull_limit(self) -> None:
        """A 429 on a manifest GET does not affect HEADs and blobs."""
        self.use(Reply(429, {"Retry-After": "60"}), HEAD, Reply(200, {}, b"blob"))
        self.failure(self.fetch(), UpstreamBusy)
        self.result(self.resolve())
        self.result(self.blob())
        error = self.failure(self.fetch(), UpstreamBusy)

        self.assertEqual(60, error.retry_after_seconds)
        self.assertEqual(3, len(self.agent.requests))

    def test_abuse_limit(self) -> None:
        """A 429 on a HEAD, or from the token service, stops all requests."""
        for script in ([Reply(429)], [challenge(), Reply(429)]):
            self.use(*script)
            self.failure(self.resolve(), UpstreamBusy)
            sent = len(self.agent.requests)
            self.failure(self.fetch(), UpstreamBusy)
            self.assertEqual(sent, len(self.agent.requests))

    def test_not_found_is_a_response(self) -> None:
        """404, 401 and 403 are responses: they never open the circuit."""
        self.use(*[Reply(404), Reply(403), Reply(404), Reply(403)], HEAD)
        for kind in (ManifestUnknown, Denied) * 2:
            self.failure(self.resolve(), kind)
        self.result(self.resolve())

    def test_short_timeouts(self) -> None:
        """A short timeout marks the upstream as degraded and does not open the circuit."""
        self.use(*[Hang()] * 5)
        for _ in range(5):
            resolving = self.begin(self.resolve(budget_seconds=1))
            self.clock.advance(1)
            self.failureResultOf(resolving, UpstreamTimeout)

        self.assertTrue(self.client.is_degraded(of_manifests=True))
        self.assertEqual(CircuitState.CLOSED, self.client.status().others)
        self.clock.advance(5)
        self.assertFalse(self.client.is_degraded(of_manifests=True))


class OutageTests(SynchronousTestCase):
    """An upstream that fails and recovers."""

    def setUp(self) -> None:
        self.clock, self.circuit = Clock(), Circuit(Random(1))
        self.outages = OutageLogger("docker.io", "me", self.circuit, self.clock)
        self.logged = Logged.during(self, "mirrord.upstream.api")

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


class OutagesOfClientTests(ClientTestCase):
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

    def test_account(self) -> None:
        """A rejected account is logged with its user name, once in ten minutes, and opens no circuit."""
        own = challenge(realm=f"{HOME}/token")
        basic = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
        for script in ([own, Reply(401)], [basic, basic]):
            del self.logged.entries[:]
            self.use(*script, account=ME)
            message = self.failure(self.resolve(attempts=3), AccountRefused).message
            for _ in range(5):
                self.agent.add(script[-1]) if script[0] is basic else self.agent.add(*script)
                self.failure(self.resolve(attempts=3), AccountRefused)
            (rejected,) = self.logged.entries
            self.assertEqual(("warn", Event.ACCOUNT_REJECTED), (rejected.level, rejected.event))
            self.assertEqual(f"registry.example: {message}; check the password of me", rejected.message)
            self.assertNotIn("s3cret", repr(rejected))
            self.assertNotIn("me", message.split())
            self.assertEqual(CircuitState.CLOSED, self.client.status().others)

            self.clock.advance(600)
            self.agent.add(script[-1]) if script[0] is basic else self.agent.add(*script)
            self.failure(self.resolve(attempts=3), AccountRefused)
            self.assertEqual(2, len(self.logged.entries))

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
