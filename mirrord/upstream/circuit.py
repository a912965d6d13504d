"""The circuit: whether an upstream is asked at all.

Docker Hub counts pulls, which are manifest GETs; its HEADs and blobs go on when the limit is
reached. So there are two gates. A 429 on a manifest GET shuts the gate of manifest GETs; a 429 on
anything else (that is the limit against abuse), or three failures in a row, shut the gate that
everything passes.

When its time is over, a shut gate lets one probe pass, which then speaks for all. A probe may
hang as long as any request; what it must not do is keep everybody out meanwhile. So the time of a
gate counts from when the failed request began, not from when it was given up, and after a
moment's patience with a probe the next request is let through as another one.

A failure counts only if nothing good came since its request began: one request that hangs while
others are served says something about that request, not about the upstream.

No clock here: times are numbers that the caller hands in, seconds of any one clock.
"""

from enum import Enum
from random import Random

import attrs

from mirrord.flight.backoff import jitter
from mirrord.oci.errors import CircuitOpen, UpstreamBusy, UpstreamError

FAILURES_TO_OPEN = 3
MAX_OPEN_SECONDS = 5.0
"""How long a gate is shut where the upstream named no time: between half of it and all of it, at random."""

PROBE_PATIENCE_SECONDS = 2.0
DEGRADED_SECONDS = 5.0
MIN_RETRY_AFTER_SECONDS = 1.0
MAX_RETRY_AFTER_SECONDS = 3600.0


class CircuitState(Enum):
    """Whether requests pass (closed, as a switch is), are turned away, or pass one by one."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@attrs.define(eq=False)
class CircuitGate:
    """One switch: closed, requests flow; open, they do not."""

    _open_until: float | None = None
    _error: type[UpstreamError] = CircuitOpen
    _probe: "Ticket | None" = None
    _probed_at: float = 0.0

    def state(self, now: float) -> CircuitState:
        """What the next request meets."""
        if self._open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self._open_until else CircuitState.PROBING

    def wait_seconds(self, now: float) -> float:
        """For how long the next request would be turned away; 0 if it would pass."""
        if self._open_until is None:
            return 0.0
        wait = self._open_until - now
        if self._probe is not None:
            wait = max(wait, self._probed_at + PROBE_PATIENCE_SECONDS - now)
        return max(wait, 0.0)

    def check(self, now: float) -> None:
        """Raise what a request that is turned away ends with."""
        wait = self.wait_seconds(now)
        if wait > 0:
            what = "is over its limit" if self._error is UpstreamBusy else "failed a moment ago"
            raise self._error(f"the upstream {what}, so it is not asked now", retry_after_seconds=wait)

    def enter(self, ticket: "Ticket", now: float) -> bool:
        """Let a checked request pass; whether it is a probe."""
        if self._open_until is None:
            return False
        self._probe, self._probed_at = ticket, now
        return True

    def leave(self, ticket: "Ticket") -> None:
        """The request is over; if it was the probe, the next one may go."""
        if self._probe is ticket:
            self._probe = None

    def open(self, until: float, error: type[UpstreamError]) -> None:
        """Turn requests away; a longer time that was set before stays."""
        if self._open_until is None or until > self._open_until:
            self._open_until, self._error = until, error

    def close(self, *, by_probe: bool) -> None:
        """Let everything pass again; what a 429 has shut only its probe can close."""
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
        """Let a request pass; settle its ticket by one of its methods, whatever happens.

        Raises:
            UpstreamBusy: A 429 has shut the gate; with the time that is left.
            CircuitOpen: Failures have; likewise.
        """
        gates = (self._all, self._manifest_gets) if is_manifest_get else (self._all,)
        for gate in gates:
            gate.check(now)
        ticket = Ticket(self, gates, now, self._progress)
        ticket.enter(now)
        return ticket

    def state(self, now: float, *, of_manifests: bool) -> CircuitState:
        """What the next manifest GET, or anything else, meets."""
        everything = self._all.state(now)
        if of_manifests and everything is CircuitState.CLOSED:
            return self._manifest_gets.state(now)
        return everything

    def wait_seconds(self, now: float, *, of_manifests: bool) -> float:
        """For how long such a request would be turned away; 0 if it would pass."""
        wait = self._all.wait_seconds(now)
        return max(wait, self._manifest_gets.wait_seconds(now)) if of_manifests else wait

    def is_degraded(self, now: float, *, of_manifests: bool) -> bool:
        """Whether such a request would be rejected, or one has recently gone unanswered.

        False while a probe is due: one request has to be sent, or the gate never closes.
        """
        return now < self._degraded_until or self.wait_seconds(now, of_manifests=of_manifests) > 0

    def mark_degraded(self, now: float) -> None:
        """Enter the degraded state for DEGRADED_SECONDS; no gate opens."""
        self._degraded_until = now + DEGRADED_SECONDS

    def progressed(self) -> None:
        """Reset the failure count: a response or bytes of a blob arrived. The degraded state remains."""
        self._failures = 0
        self._progress += 1

    def answered(self) -> None:
        """A response arrived: reset the failure count and end the degraded state."""
        self.progressed()
        self._degraded_until = 0.0

    def failed(self, began_at: float, seen_progress: int, *, was_probe: bool) -> bool:
        """A request failed that began at that progress; whether that opens the circuit."""
        if seen_progress != self._progress:
            return False
        self._failures += 1
        if self._failures < FAILURES_TO_OPEN and not was_probe:
            return False
        self._all.open(began_at + self._own_open_seconds(), CircuitOpen)
        return True

    def limited(self, now: float, retry_after_seconds: float | None, *, manifest_gets_only: bool) -> float:
        """The upstream said 429; returns for how long nothing is asked."""
        if retry_after_seconds is None:
            seconds = self._own_open_seconds()
        else:
            seconds = min(max(retry_after_seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)
        gate = self._manifest_gets if manifest_gets_only else self._all
        gate.open(now + seconds, UpstreamBusy)
        return seconds

    def _own_open_seconds(self) -> float:
        return jitter(MAX_OPEN_SECONDS, self._random.random)


@attrs.define(eq=False)
class Ticket:
    """One admitted request. How it ends decides about those that come after; only its first end counts."""

    _circuit: Circuit
    _gates: tuple[CircuitGate, ...]
    _began_at: float
    _seen_progress: int
    _probed: tuple[CircuitGate, ...] = attrs.field(default=(), init=False)
    is_settled: bool = attrs.field(default=False, init=False)

    def enter(self, now: float) -> None:
        """Pass the gates, which were checked."""
        self._probed = tuple([gate for gate in self._gates if gate.enter(self, now)])

    def succeeded(self) -> None:
        """An answer came; 401, 403 and 404 are answers like any other."""
        if self._settle():
            for gate in self._gates:
                gate.close(by_probe=gate in self._probed)
            self._circuit.answered()

    def failed(self) -> bool:
        """No answer came, or one that says that the upstream is broken; whether that opens the circuit."""
        was_probe = self._gates[0] in self._probed
        return self._settle() and self._circuit.failed(
            self._began_at, self._seen_progress, was_probe=was_probe
        )

    def limited(self, now: float, retry_after_seconds: float | None, *, manifest_gets_only: bool) -> float:
        """The answer was 429; returns for how long nothing is asked."""
        self._settle()
        return self._circuit.limited(now, retry_after_seconds, manifest_gets_only=manifest_gets_only)

    def abandoned(self) -> None:
        """Nobody waits for the answer any more, so nothing is known."""
        self._settle()

    def _settle(self) -> bool:
        was_settled, self.is_settled = self.is_settled, True
        for gate in self._gates:
            gate.leave(self)
        return not was_settled
