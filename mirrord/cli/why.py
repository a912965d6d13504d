"""`mirrord why`: how an image would be answered."""

from collections import Counter
from collections.abc import Iterator

import click

from mirrord.cli.admin_client import Document
from mirrord.cli.formatting import format_age, format_freshness, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import reach
from mirrord.oci.names import HOSTED

_STATES = {"fresh": "", "stale": "stale, ", "pending": "seen, not fetched, ", "hosted": ""}


@click.command()
@click.argument("reference")
@click.option("--json", "is_json", is_flag=True, help="Print it as JSON.")
@with_global_options
def why(settings: GlobalOptions, reference: str, *, is_json: bool) -> None:
    """Explain what a client that asks for an image would get.

    Which upstream it comes from, or that it was pushed here; until when its tag is believed, where its bytes
    are, who may have it, and who asked last.
    """
    with reach(settings) as daemon:
        answer = daemon.get("/why", reference=reference)
    if is_json:
        print_json(answer)
        return
    for title, text in _lines(answer):
        click.echo(f"{title + ':':11} {text}")


def _lines(answer: Document) -> Iterator[tuple[str, str]]:
    yield "image", str(answer.get("reference"))
    if answer.get("upstream") == HOSTED:
        yield "hosted", f"repository {answer.get('repository')}"
    else:
        yield "upstream", f"{answer.get('upstream')}, repository {answer.get('repository')}"
    for action, parties in (answer.get("may") or {}).items():
        if parties:
            yield f"may {action}", "everybody" if "anonymous" in parties else ", ".join(parties)
    if answer.get("why_not"):
        yield "refused", str(answer["why_not"])
    if not answer.get("is_known"):
        is_hosted = answer.get("upstream") == HOSTED
        asked = "pushed it, or it was deleted" if is_hosted else "asked for it, or it was forgotten"
        yield "held", f"no; nobody has {asked}"
        return
    if tag := answer.get("tag"):
        yield "tag", f"{tag['digest']}, {_STATES.get(tag['state'], tag['state'])}{format_freshness(tag)}"
    if manifest := answer.get("manifest"):
        held = "held" if manifest.get("is_held") else "not held"
        yield "manifest", f"{held}, {manifest.get('media_type')}, {format_size(manifest.get('size') or 0)}"
    if blobs := answer.get("blobs"):
        states = Counter(str(blob.get("state")) for blob in blobs)
        total = format_size(sum(blob.get("size") or 0 for blob in blobs))
        yield "blobs", ", ".join(f"{number} {state}" for state, number in states.items()) + f"; {total}"
    if answer.get("last_client"):
        yield "asked", f"{format_age(answer.get('last_asked_at'))} by {answer['last_client']}"
