"""`mirrord why`: how a pull would be answered."""

from collections import Counter
from collections.abc import Iterator

import click

from mirrord.cli.admin_client import Document, repository_key
from mirrord.cli.formatting import format_age, format_freshness, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import connect

_TAG_STATES = {"fresh": "", "stale": "stale, ", "pending": "known but not cached, ", "hosted": ""}
_BLOB_STATES = {
    "held": "stored",
    "unconfirmed": "stored and not yet confirmed by the upstream",
    "absent": "not stored",
    "partial": "partly downloaded",
}


@click.command()
@click.argument("reference")
@click.option("--json", "is_json", is_flag=True, help="Print the explanation as JSON.")
@with_global_options
def why(options: GlobalOptions, reference: str, *, is_json: bool) -> None:
    """Explain how the mirror would answer a pull.

    Shows the upstream of an image, or that it is hosted; the freshness of its tag; which of its content is
    stored; its access rules; and the last client that requested it.
    """
    with connect(options) as daemon:
        explanation = daemon.fetch("GET", "/why", reference=reference)
    if is_json:
        print_json(explanation)
        return
    for title, text in _lines(explanation):
        click.echo(f"{title + ':':11} {text}")


def _lines(explanation: Document) -> Iterator[tuple[str, str]]:
    key = repository_key(explanation)
    yield "image", str(explanation.get("reference"))
    if key.is_hosted:
        yield "hosted", f"repository {key.repository}"
    else:
        yield "upstream", f"{key.upstream}, repository {key.repository}"
    for action, principals in (explanation.get("may") or {}).items():
        if principals:
            yield f"may {action}", "anyone" if "anonymous" in principals else ", ".join(principals)
    if explanation.get("why_not"):
        yield "not served", str(explanation["why_not"])
    if not explanation.get("is_known"):
        reason = "never pushed, or deleted" if key.is_hosted else "never requested, or removed since"
        yield "stored", f"no; {reason}"
        return
    if tag := explanation.get("tag"):
        state = _TAG_STATES.get(tag["state"], f"{tag['state']}, ")
        yield "tag", f"{tag['digest']}, {state}{format_freshness(tag)}"
    if manifest := explanation.get("manifest"):
        state, size = "stored" if manifest.get("is_held") else "not stored", manifest.get("size") or 0
        yield "manifest", f"{state}, {manifest.get('media_type')}, {format_size(size)}"
    if blobs := explanation.get("blobs"):
        states = Counter(_BLOB_STATES.get(blob["state"], str(blob["state"])) for blob in blobs)
        total = format_size(sum(blob.get("size") or 0 for blob in blobs))
        yield "blobs", ", ".join(f"{number} {state}" for state, number in states.items()) + f"; {total}"
    if explanation.get("last_client"):
        yield "requested", f"{format_age(explanation.get('last_asked_at'))} by {explanation['last_client']}"
