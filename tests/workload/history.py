"""The history of what clients did, and which states of a registry it allows.

A registry is a set of facts: this repository has that blob, that manifest, and its tag names that digest.
Each fact is changed by one client at a time, which notes when it began and when the registry acknowledged.
After a crash at any time between, both states are right; after the acknowledgement only the new one is. A
change without an acknowledgement (the daemon was killed, or failed) stays possible until a later change of
the same fact is acknowledged.

Times are whatever `clock` returns, as long as it never decreases: seconds, or the size of a disk's log.
"""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Self

import attrs

Value = str | None
"""A digest, or None where there is nothing."""


@attrs.frozen(order=True)
class Fact:
    """What a repository has under a name: a blob or manifest under its digest, or a manifest under a tag."""

    repository: str
    kind: Literal["blob", "manifest", "tag"]
    name: str

    @property
    def path(self) -> str:
        """The path at which a registry serves it."""
        return f"/v2/{self.repository}/{'blobs' if self.kind == 'blob' else 'manifests'}/{self.name}"


@attrs.frozen
class Change:
    """A change of a fact to `value`; where `only_from` is given, of a fact that has that value."""

    fact: Fact
    value: Value
    only_from: Value = None

    def apply(self, value: Value) -> Value:
        """Return the value after the change of a fact that has `value`."""
        return self.value if self.only_from in {None, value} else value


@attrs.frozen
class _Attempt:
    change: Change
    began_at: float
    acknowledged_at: float | None

    def is_certain_at(self, time: float) -> bool:
        return self.acknowledged_at is not None and self.acknowledged_at <= time


@attrs.define(eq=False)
class History:
    """All changes, by fact. Clients of several threads may use it, each with facts of its own."""

    clock: Callable[[], float]
    _initial: dict[Fact, frozenset[Value]] = attrs.field(factory=dict)
    _attempts: defaultdict[Fact, list[_Attempt]] = attrs.field(factory=lambda: defaultdict(list), init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @contextmanager
    def attempt(self, *changes: Change) -> Iterator[None]:
        """Note changes: acknowledged at the end of the block, or never if it raises."""
        began_at, acknowledged_at = self.clock(), None
        try:
            yield
            acknowledged_at = self.clock()
        finally:
            with self._lock:
                for change in changes:
                    self._attempts[change.fact].append(_Attempt(change, began_at, acknowledged_at))

    def facts(self) -> list[Fact]:
        """Return all facts that ever had a value or may have one."""
        with self._lock:
            return sorted({*self._initial, *self._attempts})

    def possible(self, fact: Fact, at: float = math.inf, certain_at: float | None = None) -> frozenset[Value]:
        """Return the values that a fact may have after a crash at a time.

        Changes that were acknowledged only after `certain_at` (default: `at`) may be missing: a backup that
        ran from `certain_at` until `at` may have either.
        """
        certain_at = at if certain_at is None else certain_at
        values = set(self._initial.get(fact, frozenset({None})))
        for attempt in self._attempts.get(fact, ()):
            if attempt.began_at > at:
                break
            changed = {attempt.change.apply(value) for value in values}
            values = changed if attempt.is_certain_at(certain_at) else values | changed
        return frozenset(values)

    def certain(self, repository: str, kind: str) -> list[Fact]:
        """Return the facts of a repository and a kind that certainly have a value."""
        with self._lock:
            candidates = {fact for fact in {*self._initial, *self._attempts} if fact.repository == repository}
        values = ((fact, self.possible(fact)) for fact in sorted(candidates) if fact.kind == kind)
        return [fact for fact, possible in values if len(possible) == 1 and None not in possible]

    def changes(self) -> list[Change]:
        """Return changes that make the facts of which the value is certain in another registry."""
        states = ((fact, self.possible(fact)) for fact in self.facts())
        return [Change(fact, *values) for fact, values in states if len(values) == 1]

    def acknowledgements(self) -> list[float]:
        """Return the times of all acknowledgements."""
        with self._lock:
            times = {attempt.acknowledged_at for attempts in self._attempts.values() for attempt in attempts}
        return sorted(time for time in times if time is not None)

    def continued(self, clock: Callable[[], float], at: float) -> Self:
        """Return a history that begins with the states that are possible after a crash of this one."""
        return type(self)(clock, {fact: self.possible(fact, at) for fact in self.facts()})
