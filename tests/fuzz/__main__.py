"""`python -m tests.fuzz`: a million cases; see docs/testing.md."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from tests.fakes.registry_process import RegistryProcess
from tests.fuzz.fuzzing import Failure, fuzz, grow, replay
from tests.fuzz.sending import REQUESTS, send
from tests.fuzz.targets import TARGETS
from tests.integration.daemon import Daemon
from tests.workload.daemon import hosting

_SHOWN = 5


def main() -> None:
    """Fuzz the targets that the command line names, and report and keep what fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    known = [*TARGETS, REQUESTS]
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--cases", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations")
    parser.add_argument("--grow", action="store_true", help="add inputs that reach new code to the corpus")
    options = parser.parse_args()
    names = options.targets or known
    cases, failed = options.cases // len(names), False
    print(f"seed {options.seed}")
    for name in names:
        if options.grow:
            added = grow(name, TARGETS[name], cases, options.seed) if name in TARGETS else 0
            print(f"{name}: {added} inputs added", flush=True)
            continue
        began_at = time.monotonic()
        for failure in islice(_failures(name, cases, options.seed), _SHOWN):
            failed = True
            print(f"{name}: {failure.error}\n  {failure.content[:300]!r}\n  kept as {failure.keep()}")
        print(f"{name}: {cases} cases in {time.monotonic() - began_at:.0f} s", flush=True)
    sys.exit(failed)


def _failures(name: str, cases: int, seed: int) -> Iterator[Failure]:
    if name in TARGETS:
        yield from chain(replay(name, TARGETS[name]), fuzz(name, TARGETS[name], cases, seed))
        return
    registry = RegistryProcess.start()
    with tempfile.TemporaryDirectory(prefix="mirrord-fuzz-", dir="/tmp") as folder:
        daemon = Daemon(Path(folder), hosting(registry.url))
        try:
            daemon.start()
            yield from send(daemon.port, cases, seed)
            daemon.stop()
            if daemon.bad_lines():
                raise AssertionError(daemon.bad_lines())
        finally:
            daemon.kill()
            registry.stop()


if __name__ == "__main__":
    main()
