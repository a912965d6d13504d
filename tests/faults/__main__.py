"""`python -m tests.faults`: inject faults for as long as you like; see docs/testing.md."""

import argparse
import random
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import attrs

from tests.faults.campaign import Site, site, try_daemon, try_restore
from tests.faults.injection import FAILURES, KILLS, problem

_SECONDS = 3.0


def main() -> None:
    """Inject one fault after another, chosen at random, and report what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="for how long (default: 30)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the faults and the clients")
    options = parser.parse_args()
    missing = problem()
    if missing is not None:
        parser.exit(2, f"cannot inject faults here: {missing}\n")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, as after Control-C
    print(f"seed {options.seed}", flush=True)
    dice, wrong, deadline = random.Random(options.seed), 0, time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="mirrord-faults-", dir="/tmp") as name, site(Path(name)) as here:
        for number in count():
            if time.monotonic() > deadline:
                break
            known = dice.choice((*FAILURES, *KILLS))
            injection = attrs.evolve(
                known, first=dice.randint(1, 40), step=known.step and dice.randint(1, 60)
            )
            own = Site(Path(name) / str(number), here.upstream, here.shared)
            is_restore = dice.random() < 0.2
            problems = (
                try_restore(own, injection)
                if is_restore
                else try_daemon(own, injection, 3, options.seed + number)
            )
            wrong += bool(problems)
            print(
                f"{'restore' if is_restore else 'daemon'} {injection}: {len(problems)} problems", flush=True
            )
            for line in problems[:5]:
                print(f"  {line}")
    print(f"{number} faults, {wrong} with problems")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
