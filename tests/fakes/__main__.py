"""`python -m tests.fakes`: a FakeRegistry controlled by its standard input (registry_process.py)."""

import argparse
import json
import sys
from typing import Any

import attrs
from twisted.internet import reactor, stdio
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from tests.fakes.images import Piece, make_image, random_bytes
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_process import Pushed, Stored, decode_fault
from tests.fakes.state import RegistryBehavior


class CommandProtocol(LineReceiver):
    """Reads one command per line of standard input, and responds to each with a line."""

    delimiter = b"\n"
    MAX_LENGTH = 1024 * 1024

    def __init__(self, registry: FakeRegistry, ended: "Deferred[None]") -> None:
        self._registry = registry
        self._ended = ended

    def lineReceived(self, line: bytes) -> None:
        """Run one command."""
        terms = json.loads(line)
        command = getattr(self, f"_do_{terms.pop('do')}")
        Deferred.fromCoroutine(self._run(command, terms))

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        """Stop: standard input has ended."""
        self._ended.callback(None)

    async def _run(self, command: Any, terms: dict[str, Any]) -> None:
        try:
            response: dict[str, object] = {"result": await command(**terms)}
        except Exception as error:  # noqa: BLE001 - reported to the other process
            response = {"error": repr(error)}
        self.sendLine(json.dumps(response).encode())

    async def _do_put_image(self, sizes: list[int], seed: int, repository: str, tag: str | None) -> object:
        image = make_image(sizes, seed)
        self._registry.put(image, repository, tag)
        return attrs.asdict(Pushed.of(image))

    async def _do_put_blob(self, size: int, seed: int, repository: str) -> object:
        return attrs.asdict(Stored.of(self._registry.put_blob(random_bytes(size, seed), repository)))

    async def _do_put_zeros(self, size: int, count: int, repository: str) -> object:
        return self._registry.content.put_zeros(repository, size, count)

    async def _do_put_content(self, content: str, repository: str) -> None:
        self._registry.put_blob(content.encode(), repository)

    async def _do_put_manifest(self, content: str, media_type: str, repository: str, tag: str | None) -> None:
        self._registry.content.put_manifest(repository, Piece(media_type, content.encode()), tag)

    async def _do_list_referrer(self, descriptor: dict[str, object], repository: str) -> None:
        self._registry.content.repository(repository).listed.append(descriptor)

    async def _do_put_tag(self, tag: str, manifest: str, repository: str) -> None:
        self._registry.content.repository(repository).tags[tag] = manifest

    async def _do_delete_tag(self, tag: str, repository: str) -> None:
        del self._registry.content.repository(repository).tags[tag]

    async def _do_play(self, faults: list[dict[str, Any]]) -> None:
        self._registry.play(*map(decode_fault, faults))

    async def _do_heal(self) -> None:
        self._registry.heal()

    async def _do_throttle(self, rate: float | None, digest: str | None) -> None:
        self._registry.throttle(rate, digest)

    async def _do_revoke_tokens(self) -> None:
        self._registry.tokens.revoke()

    async def _do_up(self) -> None:
        await self._registry.up()

    async def _do_down(self) -> None:
        await self._registry.down()

    async def _do_forget(self) -> None:
        self._registry.journal.clear()

    async def _do_journal(self) -> list[dict[str, Any]]:
        return [attrs.asdict(request) for request in self._registry.journal.requests()]

    async def _do_tokens(self) -> dict[str, int]:
        return dict(self._registry.tokens.per_scope)


async def serve(clock: Any, options: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    given = json.loads(options.options)
    behavior = RegistryBehavior(**given.get("behavior", {}))
    hosts = tuple(given.get("hosts", ["127.0.0.1"] * 3))
    registry = FakeRegistry(clock, behavior, hosts, (options.port, 0, 0))
    await registry.up()
    spoken: dict[str, object] = {
        "url": registry.url,
        "realm_url": registry.realm_url,
        "cdn_url": registry.cdn_url,
    }
    if options.layer_size:
        image = make_image([options.layer_size])
        registry.put(image)
        spoken |= attrs.asdict(Pushed.of(image))
    registry.throttle(options.rate)
    sys.stdout.write(json.dumps(spoken) + "\n")
    sys.stdout.flush()
    ended: Deferred[None] = Deferred()
    stdio.StandardIO(CommandProtocol(registry, ended))
    await ended
    await registry.down()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the API; 0 for any free one")
    parser.add_argument("--layer-size", type=int, default=0, help="push library/app:latest with such a layer")
    parser.add_argument("--rate", type=float, default=None, help="bytes per second of a response")
    parser.add_argument("--options", default="{}", help="behavior and hosts, as JSON")
    options = parser.parse_args()
    react(serve, (options,), _reactor=reactor)


if __name__ == "__main__":
    main()
