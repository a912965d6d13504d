"""The log entries of a test."""

import attrs
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mirrord.observe.log_entry import LogEntry


@implementer(ILogObserver)
@attrs.define(eq=False)
class Logged:
    """Records the entries of loggers whose names begin with `namespace`."""

    namespace: str
    entries: list[LogEntry] = attrs.field(factory=list, init=False)

    @classmethod
    def during(cls, case: SynchronousTestCase, namespace: str) -> "Logged":
        """Record until the end of a test."""
        logged = cls(namespace)
        globalLogPublisher.addObserver(logged)
        case.addCleanup(globalLogPublisher.removeObserver, logged)
        return logged

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith(self.namespace):
            self.entries.append(LogEntry.of(event))

    @property
    def messages(self) -> list[str]:
        return [entry.message for entry in self.entries]
