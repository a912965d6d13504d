"""Tests of mirrord/admin/status.py."""

import json
from enum import Enum

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.admin.status import Holdings, Status
from mirrord.oci.digest import Digest
from mirrord.oci.names import Repository, Source

DIGEST = Digest.of(b"blob")


class Mood(Enum):
    WELL = "well"


@attrs.frozen
class Running:
    digest: Digest
    source: Source
    mood: Mood
    size: int | None


class StatusTests(SynchronousTestCase):
    """What the daemon is doing, at a glance."""

    def test_all_of_it(self) -> None:
        """Values become strings and numbers that JSON takes, and the uptime is counted from the making."""
        clock = Clock()
        clock.advance(100)
        running = Running(DIGEST, Source("docker.io", Repository("a/b")), Mood.WELL, None)
        status = Status(
            "1.2", clock.seconds, lambda: Holdings(10, 2, None), lambda: [running], list, lambda: None
        )
        clock.advance(7.9)

        self.assertEqual(
            {
                "version": "1.2",
                "uptime_seconds": 7,
                "store": {"bytes": 10, "entries": 2, "max_bytes": None},
                "downloads": [
                    {"digest": str(DIGEST), "source": "docker.io/a/b", "mood": "well", "size": None}
                ],
                "upstreams": [],
                "last_sweep": None,
            },
            json.loads(json.dumps(status())),
        )
