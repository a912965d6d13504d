"""Compare what a daemon serves with what the history allows."""

import hashlib
import math
from collections.abc import Callable, Sequence

import attrs

from tests.integration.pushing import Pusher
from tests.workload.daemon import DiskDaemon
from tests.workload.history import Fact, History, Value


@attrs.frozen
class Violation:
    """A fact with a state that the history does not allow; `found` is a digest, None, or another response."""

    fact: Fact
    found: Value
    possible: frozenset[Value]

    @property
    def is_loss(self) -> bool:
        """Whether something acknowledged is gone, and not just changed or back again."""
        return self.found is None

    def __str__(self) -> str:
        allowed = " or ".join(sorted(value or "nothing" for value in self.possible))
        return f"{self.fact.path}: {self.found or 'nothing'}, and not {allowed}"


def read_fact(pusher: Pusher, fact: Fact) -> Value:
    """Return the digest of what the daemon serves, None for 404, or the status of another response."""
    response = pusher.request("GET", fact.path)
    if response.status == 404:
        return None
    if response.status != 200:
        return f"status {response.status}"
    return f"sha256:{hashlib.sha256(response.body).hexdigest()}"


def check(
    pusher: Pusher, history: History, at: float = math.inf, certain_at: float | None = None
) -> list[Violation]:
    """Return the facts that are not as they may be after a crash at a time (see `History.possible`)."""
    violations = []
    for fact in history.facts():
        possible, found = history.possible(fact, at, certain_at), read_fact(pusher, fact)
        if found not in possible:
            violations.append(Violation(fact, found, possible))
    return violations


def find_problems(daemon: DiskDaemon, look: Callable[[Pusher], Sequence[object]]) -> list[str]:
    """Start a daemon, evict all that may be, let `look` return what is wrong, and push."""
    try:
        daemon.start()
        daemon.check_call("gc")
        pusher = Pusher(daemon.port)
        problems = [str(problem) for problem in look(pusher)]
        pusher.push_image("team/probe", "v1", b"a layer")
        pusher.close()
        daemon.stop()
        return problems
    finally:
        daemon.kill()
