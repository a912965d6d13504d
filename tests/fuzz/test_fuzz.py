"""Mutations of the corpus; `python -m tests.fuzz` tries a million (docs/testing.md)."""

import os
from itertools import chain, islice

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.fuzzing import fuzz, replay
from tests.fuzz.mutation import CORPUS
from tests.fuzz.sending import REQUESTS, send
from tests.fuzz.targets import TARGETS
from tests.integration.case import MB, MIB, MirrorCase
from tests.integration.client import pull
from tests.workload.daemon import HOSTED

CASES = int(os.environ.get("MIRRORD_FUZZ", "10000"))
"""The cases of each parser, and the requests to the daemon."""

SEED = 1


class ParserTests(SynchronousTestCase):
    def test_targets(self) -> None:
        """Every target has a corpus, and every corpus a target."""
        self.assertEqual({*TARGETS, REQUESTS}, {folder.name for folder in CORPUS.iterdir()})

    def test_mutations(self) -> None:
        """No parser raises what its docstring does not name, or breaks a promise, for any of the inputs."""
        for name, target in TARGETS.items():
            failures = chain(replay(name, target), fuzz(name, target, CASES, SEED))
            self.assertEqual([], list(islice(failures, 3)), name)


class RequestTests(MirrorCase):
    def test_malformed_requests(self) -> None:
        """No malformed request is answered by 5xx or HTML, logs a traceback or ends the daemon."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon(tag_ttl="1h", more=HOSTED)
        self.assertEqual([], list(islice(send(daemon.port, CASES, SEED), 3)))
        self.assertTrue(daemon.is_alive)
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertLess(daemon.pss(), 72 * MIB)
