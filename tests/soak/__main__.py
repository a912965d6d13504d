"""`python -m tests.soak`: an hour of everything at once; see docs/testing.md."""

import argparse
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from tests.soak.drawing import draw
from tests.soak.soak import Soak, soak


def main() -> None:
    """Soak, report each round, and draw what the daemon used."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="for how long (default: 60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    parser.add_argument("--drawing", type=Path, default=Path("soak.svg"), help="the file for the drawing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, as after Control-C
    print(f"seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="mirrord-soak-", dir="/tmp") as folder,
        soak(Path(folder), options.seed) as running,
    ):
        deadline = time.monotonic() + options.minutes * 60
        for number in count():
            if time.monotonic() > deadline or running.problems:
                break
            running.run_round(number)
            options.drawing.write_text(draw(running.samples))
            print(_summary(running), flush=True)
        for problem in running.problems[:20]:
            print(problem)
    print(f"drawn in {options.drawing}")
    sys.exit(bool(running.problems))


def _summary(running: Soak) -> str:
    last = running.samples[-1]
    return (
        f"{last.seconds / 60:5.1f} min: {running.steps} changes, {running.pulls} pulls, "
        f"{running.kills} kills, {running.facts} facts checked, {last.memory >> 20} MiB of memory, "
        f"{last.descriptors} descriptors, {last.disk >> 20} MiB on the disk, {len(running.problems)} problems"
    )


if __name__ == "__main__":
    main()
