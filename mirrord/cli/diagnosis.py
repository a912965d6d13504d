"""The results of the checks of `mirrord doctor`."""

from enum import StrEnum

import attrs


class Level(StrEnum):
    """The severity of a result."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@attrs.frozen(kw_only=True)
class Diagnosis:
    """The result of one check; `advice` suggests a fix unless the level is OK."""

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Diagnosis:
    """Return a passed check."""
    return Diagnosis(subject=subject, level=Level.OK, text=text)


def warn(subject: str, text: str, advice: str) -> Diagnosis:
    """Return a problem that does not prevent operation now."""
    return Diagnosis(subject=subject, level=Level.WARN, text=text, advice=advice)


def fail(subject: str, text: str, advice: str) -> Diagnosis:
    """Return a failed check."""
    return Diagnosis(subject=subject, level=Level.FAIL, text=text, advice=advice)
