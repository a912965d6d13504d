"""Cut the power at many places of the scenarios, and check what each cut left."""

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import attrs

from tests.fakes.images import make_image
from tests.fakes.registry_process import RegistryProcess
from tests.integration.pushing import NOWHERE
from tests.power_cut.disk import mounted
from tests.power_cut.scenarios import Conditions, Scenario, busy, rebuilding, recovering, restoring
from tests.workload.checks import check, find_problems
from tests.workload.daemon import KEEP_NOTHING, DiskDaemon, hosting

_NO_SYNC = Path(__file__).with_name("no_sync.c")
_STATES_PER_RECOVERY = 25
_SHARED_SIZES, _SHARED_SEED = [40_000] * 4, 9


@attrs.frozen
class Cut:
    """A power cut in a part of a scenario, when the log had the size `at`; the seed is that of the disk."""

    scenario: Scenario
    part: str
    at: int
    seed: int


@attrs.frozen
class Verdict:
    """What was wrong after a power cut; `certain` counts the facts that were acknowledged before it."""

    cut: Cut
    certain: int
    problems: tuple[str, ...]


@contextmanager
def conditions(seed: int) -> Iterator[Conditions]:
    """Provide an upstream with content that clients also push."""
    registry = RegistryProcess.start()
    try:
        registry.put_image(*_SHARED_SIZES, seed=_SHARED_SEED)
        shared = [blob.content for blob in make_image(_SHARED_SIZES, _SHARED_SEED).layers]
        yield Conditions(registry.url, shared, seed)
    finally:
        registry.stop()


def build_no_sync(folder: Path) -> Path:
    """Compile a library with which no program waits for its disk (no_sync.c)."""
    library = folder / "no_sync.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, _NO_SYNC], check=True)
    return library


@contextmanager
def work_folder() -> Iterator[Path]:
    """Provide a folder, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="mirrord-power-cut-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def choose_cuts(scenarios: Sequence[Scenario], count: int, seed: int) -> list[Cut]:
    """Return as many cuts in each part of the scenarios, half of them at the moment of an acknowledgement."""
    dice = random.Random(seed)
    names = list(dict.fromkeys(name for scenario in scenarios for name in scenario.parts))
    cuts = []
    for number, name in enumerate(islice(cycle(names), count)):
        scenario = dice.choice([scenario for scenario in scenarios if name in scenario.parts])
        span = scenario.parts[name]
        acknowledged = [at for at in scenario.history.acknowledgements() if span.begin <= at <= span.end]
        is_anywhere = number // len(names) % 2 == 0 or not acknowledged
        at = dice.randint(span.begin, span.end) if is_anywhere else int(dice.choice(acknowledged))
        cuts.append(Cut(scenario, name, at, dice.randrange(1 << 32)))
    return cuts


def record(folder: Path, given: Conditions, states: int) -> list[Scenario]:
    """Record all scenarios; with more states, more starts after a power cut."""
    first = busy(folder / "busy", given)
    scenarios = [first, restoring(folder / "restore", given)]
    for number, cut in enumerate(choose_cuts([first], 1 + states // _STATES_PER_RECOVERY, given.seed)):
        scenarios.append(recovering(folder / f"recovery-{number}", given, first, cut.at))
    started = first.parts["first start"].end
    for number, cut in enumerate(choose_cuts([first], 2 + states // _STATES_PER_RECOVERY, given.seed + 1)):
        # Before the end of the first start there may be no index to lose.
        lost = max(cut.at, started)
        scenarios.append(rebuilding(folder / f"rebuild-{number}", given, first, lost))
    return scenarios


def examine(cut: Cut, folder: Path, keep: Path | None = None) -> Verdict:
    """Recover from a power cut, and check that all that was acknowledged before stands, and goes on.

    With `keep`, the disk of a cut after which something is wrong is moved there.
    """
    folder.mkdir()
    image, scenario = folder / "image", cut.scenario
    scenario.recording.cut(cut.at, cut.seed, image)
    if keep is not None:
        shutil.copy(image, folder / "before")
    daemon = DiskDaemon(folder / "daemon", hosting(NOWHERE, KEEP_NOTHING))
    try:
        with mounted(image, daemon.disk):
            problems = _problems(cut, daemon)
    except (OSError, AssertionError) as error:
        problems = [str(error)]
    if problems and keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "before", keep / f"{cut.part} {cut.at} {cut.seed}.ext4")
    shutil.rmtree(folder, ignore_errors=True)
    history = scenario.history
    certain = [fact for fact in history.facts() if None not in history.possible(fact, cut.at)]
    return Verdict(cut, len(certain), tuple(problems))


def _problems(cut: Cut, daemon: DiskDaemon) -> list[str]:
    scenario, history = cut.scenario, cut.scenario.history
    problems = find_problems(daemon, lambda pusher: check(pusher, history, cut.at))
    if scenario.restored_from is not None:
        daemon.check_call("restore", str(scenario.restored_from))
        again = find_problems(daemon, lambda pusher: check(pusher, history))
        problems += [f"restored again: {problem}" for problem in again]
    finished = [backup for backup in scenario.backups if backup.end <= cut.at]
    if finished and cut.part == "backup":
        # The folder has the last backup that finished, or a later one that did not report it any more.
        begun = max(backup.end for backup in scenario.backups if backup.begin <= cut.at)
        restored = DiskDaemon(daemon.folder / "restored", hosting(NOWHERE, KEEP_NOTHING))
        restored.folder.mkdir()
        restored.check_call("restore", str(daemon.backup))
        violations = find_problems(
            restored, lambda pusher: check(pusher, history, min(begun, cut.at), finished[-1].begin)
        )
        problems += [f"from the backup: {problem}" for problem in violations]
    return problems


def run(cuts: Sequence[Cut], folder: Path, jobs: int, keep: Path | None = None) -> Iterator[Verdict]:
    """Examine cuts, several at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        examining = [
            pool.submit(examine, cut, folder / f"state-{number}", keep) for number, cut in enumerate(cuts)
        ]
        try:
            for each in examining:
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)
