"""A FakeRegistry in a process of its own, for tests that measure or block.

    python -m tests.fakes --layer-size 33554432 --rate 40000000

starts one, prints its URLs as one line of JSON and then reads commands on standard input, lines of
JSON such as `{"do": …}`, and responds to each with one line, until standard input ends.
`RegistryProcess` is the other end of that pipe; it has the methods of `FakeRegistry`, without `await`.
"""

import contextlib
import json
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self

import attrs

from tests.fakes import faults
from tests.fakes.faults import Fault, Kind
from tests.fakes.images import OCI_MANIFEST, Image, Piece
from tests.fakes.journal import Journal, JournalEntry, RecordedRequest
from tests.fakes.state import RegistryBehavior

_ROOT = Path(__file__).parents[2]


def encode_fault(fault: Fault) -> dict[str, Any]:
    """Return a fault as JSON."""
    return {"fault": type(fault).__name__, **attrs.asdict(fault)}


def decode_fault(document: dict[str, Any]) -> Fault:
    """Return the fault from the JSON of `encode_fault`."""
    terms = dict(document)
    kind = getattr(faults, terms.pop("fault"))
    terms["on"] = None if terms["on"] is None else Kind(terms["on"])
    if "names" in terms:
        terms["names"] = tuple(terms["names"])
    fault: Fault = kind(**terms)
    return fault


def decode_request(document: dict[str, Any]) -> RecordedRequest:
    """Return an entry of the journal from the result of `attrs.asdict`."""
    headers = tuple((name, value) for name, value in document["headers"])
    return RecordedRequest(**{**document, "kind": Kind(document["kind"]), "headers": headers})


@attrs.frozen
class Stored:
    """Content of the other process, with its checksums."""

    digest: str
    size: int
    crc32: int

    @classmethod
    def of(cls, piece: Piece) -> Self:
        return cls(piece.digest, piece.size, zlib.crc32(piece.content))


@attrs.frozen
class Pushed:
    """An image of the other process."""

    manifest: Stored
    blobs: tuple[Stored, ...]

    @classmethod
    def of(cls, image: Image) -> Self:
        return cls(Stored.of(image.manifest), tuple(map(Stored.of, image.blobs)))

    @property
    def layer(self) -> Stored:
        """The first layer."""
        return self.blobs[1]


@attrs.define(eq=False)
class RegistryProcess:
    """A FakeRegistry in another process: `start` it, and `stop` it in any case."""

    url: str
    realm_url: str
    cdn_url: str
    _process: "subprocess.Popen[str]"
    _stdin: IO[str]
    _stdout: IO[str]

    @classmethod
    def start(
        cls, behavior: RegistryBehavior | None = None, hosts: Iterable[str] = ("127.0.0.1",) * 3
    ) -> Self:
        """Start one on free ports; it is ready when this returns."""
        options = json.dumps({"behavior": attrs.asdict(behavior or RegistryBehavior()), "hosts": list(hosts)})
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes", "--options", options],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the process has no pipes")
        line = json.loads(process.stdout.readline())
        return cls(line["url"], line["realm_url"], line["cdn_url"], process, process.stdin, process.stdout)

    def stop(self) -> None:
        """Stop it; may be called more than once."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def put_image(
        self, *sizes: int, seed: int = 1, repository: str = "library/app", tag: str | None = "latest"
    ) -> Pushed:
        """Create and push an image with layers of `sizes` bytes."""
        response = self._do("put_image", sizes=sizes, seed=seed, repository=repository, tag=tag)
        return Pushed(Stored(**response["manifest"]), tuple(Stored(**blob) for blob in response["blobs"]))

    def put_blob(self, size: int, seed: int = 1, repository: str = "library/app") -> Stored:
        """Create and push a single blob."""
        return Stored(**self._do("put_blob", size=size, seed=seed, repository=repository))

    def put_zeros(self, size: int, count: int, repository: str = "library/app") -> list[str]:
        """Push large blobs that no client can verify, and return their digests."""
        digests: list[str] = self._do("put_zeros", size=size, count=count, repository=repository)
        return digests

    def put_content(self, content: bytes, repository: str) -> None:
        """Push a blob of text."""
        self._do("put_content", content=content.decode(), repository=repository)

    def put_manifest(
        self, content: bytes, repository: str, tag: str | None = None, media_type: str = OCI_MANIFEST
    ) -> None:
        """Push a manifest, whether or not the repository has what it references."""
        text = content.decode()
        self._do("put_manifest", content=text, media_type=media_type, repository=repository, tag=tag)

    def list_referrer(self, descriptor: dict[str, object], repository: str) -> None:
        """Add a descriptor to all lists of referrers, whether or not the repository has the manifest."""
        self._do("list_referrer", descriptor=descriptor, repository=repository)

    def put_tag(self, tag: str, manifest: str, repository: str = "library/app") -> None:
        """Tag a manifest of the repository."""
        self._do("put_tag", tag=tag, manifest=manifest, repository=repository)

    def delete_tag(self, tag: str, repository: str = "library/app") -> None:
        """Delete a tag."""
        self._do("delete_tag", tag=tag, repository=repository)

    def play(self, *script: Fault) -> None:
        """Append to the fault script."""
        self._do("play", faults=[encode_fault(fault) for fault in script])

    def heal(self) -> None:
        """Delete the fault script."""
        self._do("heal")

    def throttle(self, rate: float | None, digest: str | None = None) -> None:
        """Limit each response to `rate` bytes per second: those of one digest, or of all others."""
        self._do("throttle", rate=rate, digest=digest)

    def revoke_tokens(self) -> None:
        """Revoke all tokens."""
        self._do("revoke_tokens")

    def up(self) -> None:
        """Listen again on the same ports."""
        self._do("up")

    def down(self) -> None:
        """Close the ports and every connection."""
        self._do("down")

    def forget(self) -> None:
        """Delete the journal."""
        self._do("forget")

    @property
    def journal(self) -> Journal:
        """Return the journal so far."""
        journal = Journal()
        journal.extend(JournalEntry(decode_request(document)) for document in self._do("journal"))
        return journal

    @property
    def tokens_per_scope(self) -> Counter[str]:
        """Return the number of tokens by scope."""
        return Counter(self._do("tokens"))

    def _do(self, do: str, **terms: object) -> Any:
        self._stdin.write(json.dumps({"do": do, **terms}) + "\n")
        line = self._stdout.readline()
        if not line:
            raise RuntimeError("the fake registry has ended")
        response = json.loads(line)
        if "error" in response:
            raise RuntimeError(response["error"])
        return response["result"]
