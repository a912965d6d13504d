"""`python -m tests.power_cut`: check hundreds of power cuts. Needs root; see docs/testing.md."""

import argparse
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import attrs

from tests.power_cut.campaign import build_no_sync, choose_cuts, conditions, record, run, work_folder
from tests.power_cut.disk import problem


def main() -> None:
    """Record the scenarios, check as many cuts as the command line says, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.power_cut", description=__doc__)
    parser.add_argument("--states", type=int, default=200, help="power cuts to check (default: 200)")
    parser.add_argument("--jobs", type=int, default=2, help="checks at the same time (default: 2)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the clients and the cuts")
    parser.add_argument("--keep", type=Path, help="a folder for the disks after which something was wrong")
    parser.add_argument("--without-fsync", action="store_true", help="the control run: pushes must be lost")
    options = parser.parse_args()
    missing = problem()
    if missing is not None:
        parser.exit(2, f"cannot record a disk here: {missing}\n")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, as after Control-C
    print(f"seed {options.seed}", flush=True)
    states: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    certain = 0
    with conditions(options.seed) as usual, work_folder() as folder:
        preload = str(build_no_sync(folder)) if options.without_fsync else ""
        given = attrs.evolve(usual, preload=preload)
        cuts = choose_cuts(record(folder, given, options.states), options.states, options.seed)
        for verdict in run(cuts, folder, options.jobs, options.keep):
            states[verdict.cut.part] += 1
            wrong[verdict.cut.part] += bool(verdict.problems)
            certain += verdict.certain
            for line in verdict.problems[:3]:
                print(f"{verdict.cut.part} at {verdict.cut.at}, seed {verdict.cut.seed}: {line}", flush=True)
    for part, count in states.items():
        print(f"{part:20} {count:5} states, {wrong[part]} wrong")
    print(f"{states.total()} states, {certain} acknowledged facts, {wrong.total()} states wrong")
    sys.exit(bool(wrong.total()) != options.without_fsync)


if __name__ == "__main__":
    main()
