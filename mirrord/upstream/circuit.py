"""The circuit breaker: whether requests to an upstream are sent at all.

Docker Hub counts pulls, which are manifest GETs; its HEADs and blobs are served beyond the limit. So
there are two gates. A 429 on a manifest GET opens the gate of manifest GETs; a 429 on any other request
(the limit against abuse), or three failures in a row, open the gate of all requests.

When its time is over, an open gate admits one request as a probe, whose response decides for all. A
probe may take as long as any request, but must not block all others meanwhile. So the time of a gate
counts from when the failed request began, not from when it was given up, and after
PROBE_SECONDS without a response the next request is admitted as another probe.

A failure counts only if there was no progress since its request began: one request that hangs while
others are served is no evidence about the upstream as a whole.

There is no clock here: times are arguments, in seconds of any one clock.
"""

from enum import Enum
from random import Random

import attrs

from mirrord.flight.backoff import jitter
from mirrord.oci.errors import CircuitOpen, UpstreamBusy, UpstreamError

FAILURES_TO_OPEN = 3
MAX_OPEN_SECONDS = 5.0
"""How long a gate is open without a Retry-After, less up to half of it at random."""

PROBE_SECONDS = 2.0
DEGRADED_SECONDS = 5.0
MIN_RETRY_AFTER_SECONDS = 1.0
MAX_RETRY_AFTER_SECONDS = 3600.0


class CircuitState(Enum):
    """Whether requests are sent (closed), rejected (open), or sent one at a time (probing)."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@attrs.define(eq=False)
class CircuitGate:
    """One circuit: requests are sent while it is closed."""

    _open_until: float | None = attrs.field(default=None, init=False)
    _error: type[UpstreamError] = attrs.field(default=CircuitOpen, init=False)
    _probe: "Ticket | None" = attrs.field(default=None, init=False)
    _probed_at: float = attrs.field(default=0.0, init=False)

    def state(self, now: float) -> CircuitState:
        """Return the state that the next request meets."""
        if self._open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self._open_until else CircuitState.PROBING

    def wait_seconds(self, now: float) -> float:
        """Return how long requests will be rejected; 0 if the next one will be sent."""
        if self._open_until is None:
            return 0.0
        wait = self._open_until - now
        if self._probe is not None:
            wait = max(wait, self._probed_at + PROBE_SECONDS - now)
        return max(wait, 0.0)

    def check(self, now: float) -> None:
        """Raise the error of a request that is rejected now."""
        wait = self.wait_seconds(now)
        if wait > 0:
            reason = "limits our requests" if self._error is UpstreamBusy else "failed recently"
            raise self._error(f"circuit open: the upstream {reason}", retry_after_seconds=wait)

    def enter(self, ticket: "Ticket", now: float) -> bool:
        """Admit a request that was checked; return whether it is a probe."""
        if self._open_until is None:
            return False
        self._probe, self._probed_at = ticket, now
        return True

    def leave(self, ticket: "Ticket") -> None:
        """End a request; if it was the probe, the next one may be sent."""
        if self._probe is ticket:
            self._probe = None

    def open(self, until: float, error: type[UpstreamError]) -> None:
        """Reject requests until then, or longer if that was decided before."""
        if self._open_until is None or until > self._open_until:
            self._open_until, self._error = until, error

    def close(self, *, by_probe: bool) -> None:
        """Admit all requests again; a gate that was opened by a 429 is closed by its probe only."""
        if by_probe or self._error is CircuitOpen:
            self._open_until = self._probe = None


@attrs.define(eq=False)
class Circuit:
    """The two gates of one upstream and account."""

    _random: Random
    _all: CircuitGate = attrs.field(factory=CircuitGate, init=False)
    _manifest_gets: CircuitGate = attrs.field(factory=CircuitGate, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _progress: int = attrs.field(default=0, init=False)
    _degraded_until: float = attrs.field(default=0.0, init=False)

    def admit(self, now: float, *, is_manifest_get: bool) -> "Ticket":
        """Admit a request; call one of its ticket's methods when it ends, however it ends.

        Raises:
            UpstreamBusy: A 429 has opened the circuit; with the time left.
            CircuitOpen: Failures have; likewise.
        """
        gates = (self._all, self._manifest_gets) if is_manifest_get else (self._all,)
        for gate in gates:
            gate.check(now)
        return Ticket(circuit=self, gates=gates, began_at=now, progress=self._progress)

    def state(self, now: float, *, of_manifests: bool) -> CircuitState:
        """Return the state that the next manifest GET, or any other request, meets."""
        everything = self._all.state(now)
        if of_manifests and everything is CircuitState.CLOSED:
            return self._manifest_gets.state(now)
        return everything

    def wait_seconds(self, now: float, *, of_manifests: bool) -> float:
        """Return how long such requests will be rejected; 0 if the next one will be sent."""
        wait = self._all.wait_seconds(now)
        return max(wait, self._manifest_gets.wait_seconds(now)) if of_manifests else wait

    def is_degraded(self, now: float, *, of_manifests: bool) -> bool:
        """Return whether such a request would be rejected, or one has recently gone unanswered.

        False while a probe is due: one request has to be sent, or the gate never closes.
        """
        return now < self._degraded_until or self.wait_seconds(now, of_manifests=of_manifests) > 0

    def mark_degraded(self, now: float) -> None:
        """Enter the degraded state for DEGRADED_SECONDS; no gate opens."""
        self._degraded_until = now + DEGRADED_SECONDS

    def progressed(self) -> None:
        """Record progress, a response or bytes of a blob: reset the failure count, but stay degraded."""
        self._failures = 0
        self._progress += 1

    def responded(self) -> None:
        """Record a response: reset the failure count and end the degraded state."""
        self.progressed()
        self._degraded_until = 0.0

    def failed(self, began_at: float, progress: int, *, was_probe: bool) -> bool:
        """Count the failure of a request that began at this progress; return whether the circuit opens."""
        if progress != self._progress:
            return False
        self._failures += 1
        if self._failures < FAILURES_TO_OPEN and not was_probe:
            return False
        self._all.open(began_at + self._open_seconds(), CircuitOpen)
        return True

    def limited(self, now: float, retry_after_seconds: float | None, *, manifest_gets_only: bool) -> float:
        """Open the circuit after a 429; return for how long."""
        if retry_after_seconds is None:
            seconds = self._open_seconds()
        else:
            seconds = min(max(retry_after_seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)
        gate = self._manifest_gets if manifest_gets_only else self._all
        gate.open(now + seconds, UpstreamBusy)
        return seconds

    def _open_seconds(self) -> float:
        return jitter(MAX_OPEN_SECONDS, self._random.random)


@attrs.define(eq=False, kw_only=True)
class Ticket:
    """One admitted request. Its result decides about later ones; only the first result counts."""

    _circuit: Circuit
    _gates: tuple[CircuitGate, ...]
    _began_at: float
    _progress: int
    _probed: tuple[CircuitGate, ...] = attrs.field(init=False)
    is_settled: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._probed = tuple([gate for gate in self._gates if gate.enter(self, self._began_at)])

    def succeeded(self) -> None:
        """Close the circuit: a response arrived; 401, 403 and 404 are responses like any other."""
        if self._settle():
            for gate in self._gates:
                gate.close(by_probe=gate in self._probed)
            self._circuit.responded()

    def failed(self) -> bool:
        """Count a missing response, or a 5xx; return whether the circuit opens."""
        was_probe = self._gates[0] in self._probed
        return self._settle() and self._circuit.failed(self._began_at, self._progress, was_probe=was_probe)

    def limited(self, now: float, retry_after_seconds: float | None, *, manifest_gets_only: bool) -> float:
        """Open the circuit after a 429; return for how long."""
        self._settle()
        return self._circuit.limited(now, retry_after_seconds, manifest_gets_only=manifest_gets_only)

    def abandoned(self) -> None:
        """End a request that was cancelled; its result is unknown and decides nothing."""
        self._settle()

    def _settle(self) -> bool:
        was_settled, self.is_settled = self.is_settled, True
        for gate in self._gates:
            gate.leave(self)
        return not was_settled
