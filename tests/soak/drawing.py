"""Draw samples as lines of an SVG: three panels, one below the other, without any library."""

from collections.abc import Sequence

from tests.soak.soak import Sample

_WIDTH, _HEIGHT, _LEFT, _GAP = 900, 160, 90, 50
_MIB = 1024 * 1024


def draw(samples: Sequence[Sample]) -> str:
    """Return a document with memory, descriptors and disk over time."""
    times = [sample.seconds for sample in samples]
    panels = (
        ("memory, MiB", [sample.memory / _MIB for sample in samples]),
        ("descriptors", [float(sample.descriptors) for sample in samples]),
        ("disk, MiB", [sample.disk / _MIB for sample in samples]),
    )
    height = len(panels) * (_HEIGHT + _GAP) + _GAP
    drawn = "\n".join(
        _panel(title, times, values, _GAP + number * (_HEIGHT + _GAP))
        for number, (title, values) in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}"'
        f' font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n'
        f"{drawn}\n</svg>\n"
    )


def _panel(title: str, times: Sequence[float], values: Sequence[float], top: int) -> str:
    last, most = max(times, default=1.0) or 1.0, max(values, default=1.0) or 1.0
    points = " ".join(
        f"{_LEFT + _WIDTH * at / last:.1f},{top + _HEIGHT * (1 - value / most):.1f}"
        for at, value in zip(times, values, strict=True)
    )
    bottom = top + _HEIGHT
    return "\n".join(
        (
            f'<text x="{_LEFT}" y="{top - 10}">{title}</text>',
            f'<text x="{_LEFT - 8}" y="{top + 5}" text-anchor="end">{most:.0f}</text>',
            f'<text x="{_LEFT - 8}" y="{bottom + 5}" text-anchor="end">0</text>',
            f'<text x="{_LEFT + _WIDTH}" y="{bottom + 16}" text-anchor="end">{last / 60:.1f} min</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#ccc"/>',
            f'<polyline points="{points}" fill="none" stroke="#06c"/>',
        )
    )
