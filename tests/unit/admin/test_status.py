"""Tests of mirrord/admin/status.py."""

import json
from enum import Enum

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.admin.status import (
    HostedStatus,
    ListenerStatus,
    LogStatus,
    QuarantineStatus,
    Status,
    StoreStatus,
)
from mirrord.observe.metrics import SavedTraffic
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey, RepositoryName

DIGEST = Digest.of(b"blob")


class State(Enum):
    WELL = "well"


@attrs.frozen
class Running:
    digest: Digest
    source: RepositoryKey
    state: State
    size: int | None


class StatusTests(SynchronousTestCase):
    """The status document."""

    def test_all_of_it(self) -> None:
        """Values become strings and numbers of JSON, and the uptime counts from the construction."""
        clock = Clock()
        clock.advance(100)
        listener = ListenerStatus(
            endpoint="tcp:443",
            connections=1,
            is_tls=True,
            certificates={"mirror.lan": 5.0},
            trouble="expired",
        )
        running = Running(DIGEST, RepositoryKey("docker.io", RepositoryName("a/b")), State.WELL, None)
        status = Status(
            version="1.2",
            clock=clock.seconds,
            store=lambda: StoreStatus(10, 2, None),
            hosted=lambda: HostedStatus(7, 3, 1, QuarantineStatus(20, 2)),
            saved=lambda: SavedTraffic(3, 100),
            last_sweep=lambda: None,
            listeners=lambda: [listener],
            upstreams=list,
            downloads=lambda: [running],
            logs=lambda: LogStatus(1, 2),
        )
        clock.advance(7.9)

        self.assertEqual(
            {
                "version": "1.2",
                "uptime_seconds": 7,
                "store": {"bytes": 10, "entries": 2, "max_bytes": None},
                "hosted": {"bytes": 7, "entries": 3, "uploads": 1, "quarantine": {"bytes": 20, "entries": 2}},
                "saved": {"pulls": 3, "bytes": 100},
                "listeners": [
                    {
                        "endpoint": "tcp:443",
                        "connections": 1,
                        "is_tls": True,
                        "certificates": {"mirror.lan": 5.0},
                        "trouble": "expired",
                        "address": None,
                    }
                ],
                "logs": {"dropped": 1, "access_dropped": 2},
                "downloads": [
                    {"digest": str(DIGEST), "source": "docker.io/a/b", "state": "well", "size": None}
                ],
                "upstreams": [],
                "last_sweep": None,
            },
            json.loads(json.dumps(status())),
        )
