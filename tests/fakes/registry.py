"""FakeRegistry: a whole registry with Docker Hub's manners, and with faults by script.

Three ports on loopback: the API, the token service and the CDN, each an origin of its own. It
runs in the test's reactor, or in a process of its own (`tests/fakes/apart.py`) where its work
would disturb what is measured.
"""

from typing import Any

import attrs
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.fakes.api import Api
from tests.fakes.cdn import Cdn
from tests.fakes.faults import Fault, Script
from tests.fakes.holdings import Holdings
from tests.fakes.images import Image, Index, Piece
from tests.fakes.journal import Journal
from tests.fakes.realm import Realm
from tests.fakes.scene import Manners, Scene
from tests.fakes.tokens import Tokens


@attrs.define(eq=False)
class _Door:
    """One listening port that opens again where it was. The reactor listens on TCP and tells the time."""

    _reactor: Any
    _resource: Resource
    _host: str = "127.0.0.1"
    _number: int = 0
    _factory: WrappingFactory[Any] | None = attrs.field(default=None, init=False)
    _port: IListeningPort | None = attrs.field(default=None, init=False)

    @property
    def origin(self) -> str:
        return f"http://{self._host}:{self._number}"

    def open(self) -> None:
        if self._port is not None:
            return
        site = Site(self._resource, reactor=self._reactor, timeout=None)
        self._factory = WrappingFactory(site)
        self._port = port = self._reactor.listenTCP(self._number, self._factory, interface=self._host)
        self._number = port.getHost().port

    async def close(self) -> None:
        """Listen no more, and break every connection."""
        if self._port is None or self._factory is None:
            return
        port, self._port = self._port, None
        await maybeDeferred(port.stopListening)
        while self._factory.protocols:
            for protocol in list(self._factory.protocols):
                protocol.transport.abortConnection()
            await deferLater(self._reactor, 0.001)


@attrs.define(eq=False)
class FakeRegistry:
    """A registry on three ports of loopback; `await up()` before use, `await down()` after.

    `journal` tells what was asked and sent, `manners` is how it behaves; `play` and `throttle`
    change it while it runs. `hosts` and `ports` are the API's, the token service's and the CDN's.
    """

    _reactor: Any
    manners: Manners = attrs.field(factory=Manners)
    hosts: tuple[str, str, str] = ("127.0.0.1", "127.0.0.1", "127.0.0.1")
    ports: tuple[int, int, int] = (0, 0, 0)
    _scene: Scene = attrs.field(init=False)
    _doors: tuple[_Door, _Door, _Door] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._scene = scene = Scene(self._reactor, self.manners)
        api, realm, cdn = (
            _Door(self._reactor, resource, host, port)
            for resource, host, port in zip(
                (Api(scene), Realm(scene), Cdn(scene)), self.hosts, self.ports, strict=True
            )
        )
        self._doors = api, realm, cdn

    @property
    def url(self) -> str:
        """Where the API is, without a path."""
        return self._doors[0].origin

    @property
    def realm_url(self) -> str:
        """Where the token service is, without a path."""
        return self._doors[1].origin

    @property
    def cdn_url(self) -> str:
        """Where the CDN is, without a path."""
        return self._doors[2].origin

    @property
    def journal(self) -> Journal:
        """What was asked, and what was sent."""
        return self._scene.journal

    @property
    def script(self) -> Script:
        """What goes wrong."""
        return self._scene.script

    @property
    def tokens(self) -> Tokens:
        """What the token service issued."""
        return self._scene.tokens

    @property
    def holdings(self) -> Holdings:
        """What can be pulled."""
        return self._scene.holdings

    async def up(self) -> None:
        """Listen; the second time on the same ports."""
        for door in self._doors:
            door.open()
        self._scene.realm_origin, self._scene.cdn_origin = self.realm_url, self.cdn_url

    async def down(self) -> None:
        """Close the ports and every connection; what it holds and has seen stays."""
        for door in self._doors:
            await door.close()

    def put(self, content: Image | Index, repository: str = "library/app", tag: str | None = "latest") -> str:
        """Push an image or index; returns the digest of its manifest."""
        return self.holdings.put(repository, content, tag)

    def put_blob(self, content: bytes, repository: str = "library/app") -> Piece:
        """Push a lone blob."""
        return self.holdings.put_blob(repository, content)

    def play(self, *faults: Fault) -> None:
        """Append to the fault script."""
        self.script.add(faults)

    def heal(self) -> None:
        """Forget every fault."""
        self.script.clear()

    def throttle(self, rate: float | None, digest: str | None = None) -> None:
        """Send at most `rate` bytes a second an answer: of one digest, or of all others."""
        if digest is None:
            self._scene.pace.rate = rate
        else:
            self._scene.pace.of_digest[digest] = rate
