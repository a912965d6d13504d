"""`mirrord status`: the present state of the daemon."""

import time
from collections.abc import Iterator

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mirrord.cli.admin_client import AdminClient, Document
from mirrord.cli.exit_status import DaemonUnreachable
from mirrord.cli.formatting import (
    format_age,
    format_count,
    format_duration,
    format_size,
    print_json,
    short_digest,
)
from mirrord.cli.global_options import GlobalOptions, with_global_options

_REFRESH_SECONDS = 0.5
_BAR_WIDTH = 30
_PIPE_WIDTH = 140


@click.command()
@click.option("--once", is_flag=True, help="Print the status once and exit.")
@click.option("--json", "is_json", is_flag=True, help="Print the status once, as JSON.")
@with_global_options
def status(options: GlobalOptions, *, once: bool, is_json: bool) -> None:
    """Show the status of downloads, upstreams and the store.

    On a terminal the view is updated until it is interrupted. `open` means that the circuit breaker of an
    upstream is open: after failures, requests are suspended for the time shown.
    """
    daemon = AdminClient(options.admin())
    if is_json:
        print_json(daemon.fetch("GET", "/status"))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    view = _fetch_view(daemon)
    if once or not console.is_terminal:
        console.print(view)
        return
    with Live(view, console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            try:
                live.update(_fetch_view(daemon), refresh=True)
            except DaemonUnreachable as error:  # it may be restarted
                live.update(Text(error.message, style="red"), refresh=True)


def _fetch_view(daemon: AdminClient) -> RenderableType:
    status, checks = daemon.fetch("GET", "/status"), daemon.readiness()
    return Group(_headline(status, checks), _summary(status), *_upstreams(status), *_downloads(status))


def _headline(status: Document, checks: dict[str, str]) -> RenderableType:
    problems = [f"{name}: {result}" for name, result in checks.items() if result != "ok"]
    line = Text(f"mirrord {status.get('version')}", style="bold")
    line.append(f", up for {format_duration(status.get('uptime_seconds', 0))}, ", style="not bold")
    line.append("not ready" if problems else "ready", style="red" if problems else "green")
    for problem in problems:
        line.append(f"\n{problem}", style="red")
    return line


def _summary(status: Document) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    store, saved, sweep = (status.get(name) or {} for name in ("store", "saved", "last_sweep"))
    limit = f" of {format_size(store['max_bytes'])}" if store.get("max_bytes") else ""
    entries = format_count(store.get("entries", 0), "entry")
    table.add_row("store", f"{format_size(store.get('bytes', 0))}{limit} in {entries}")
    if (hosted := status.get("hosted") or {}).get("entries") or hosted.get("uploads"):
        stored = f"{format_size(hosted['bytes'])} in {format_count(hosted['entries'], 'entry')}"
        table.add_row("hosted", f"{stored}, {format_count(hosted['uploads'], 'upload')} in progress")
    if (quarantine := hosted.get("quarantine") or {}).get("entries"):
        files = format_count(quarantine["entries"], "file")
        table.add_row("quarantine", f"{format_size(quarantine['bytes'])} in {files}; see mirrord doctor")
    if saved:
        pulls, size = format_count(saved.get("pulls", 0), "pull"), format_size(saved.get("bytes", 0))
        table.add_row("saved", f"{pulls} and {size} since start")
    if sweep:
        evicted = f"{format_count(sweep.get('entries', 0), 'entry')}, {format_size(sweep.get('bytes', 0))}"
        table.add_row("last sweep", f"{format_age(sweep.get('started_at'))}, evicted {evicted}")
    for listener in status.get("listeners", []):
        table.add_row("listener", _listener(listener))
    return table


def _listener(listener: Document) -> Text:
    line = Text(f"{listener.get('endpoint')}, {format_count(listener.get('connections', 0), 'connection')}")
    if expiries := listener.get("certificates"):
        line.append(f", certificate expires in {format_duration(min(expiries.values()) - time.time())}")
    if listener.get("trouble"):
        line.append(f": {listener['trouble']}", style="red")
    return line


def _upstreams(status: Document) -> Iterator[RenderableType]:
    table = Table(box=None, title="Upstreams", title_justify="left", title_style="bold", pad_edge=False)
    for column in ("upstream", "manifests", "other requests", "quota", "last error"):
        table.add_column(column, header_style="dim", overflow="fold")
    for upstream in status.get("upstreams", []):
        table.add_row(
            Text(str(upstream.get("name"))),
            _circuit(upstream, "manifests"),
            _circuit(upstream, "others"),
            _quota(upstream.get("quota") or {}),
            Text(upstream.get("last_error") or ""),
        )
    if table.row_count:
        yield Text()
        yield table


def _circuit(upstream: Document, kind: str) -> Text:
    state = str(upstream.get(kind, "?"))
    if state == "closed":
        return Text("available", style="green")
    wait = upstream.get(f"{kind}_wait_seconds") or 0
    return Text(f"{state} for {format_duration(wait)}" if wait else state, style="yellow")


def _quota(quota: Document) -> Text:
    remaining, limit = quota.get("remaining"), quota.get("limit")
    if remaining is None:
        return Text("")
    is_low = isinstance(limit, int) and remaining * 5 < limit
    return Text(f"{remaining} of {limit or '?'}", style="yellow" if is_low else "")


def _downloads(status: Document) -> Iterator[RenderableType]:
    downloads = status.get("downloads", [])
    yield Text(f"\n{format_count(len(downloads), 'download')} running", style="bold")
    table = Table.grid(padding=(0, 2))
    for download in downloads:
        size, written = download.get("size"), download.get("written") or 0
        bar = ProgressBar(total=size or None, completed=written, width=_BAR_WIDTH)
        progress = f"{format_size(written)} of {format_size(size)}" if size else format_size(written)
        rate, readers = download.get("bytes_per_second"), download.get("subscribers")
        table.add_row(
            Text(str(download.get("source") or "")),
            short_digest(download.get("digest")),
            bar,
            progress,
            f"{format_size(rate)}/s" if rate else "",
            "" if readers is None else format_count(readers, "client"),
        )
    if downloads:
        yield table
