"""FakeRegistry: a registry that behaves like Docker Hub, with a fault script.

Three ports on loopback: the API, the token service and the CDN, each an origin of its own. It
runs in the test's reactor, or in a process of its own (`tests/fakes/registry_process.py`) if its work
would disturb a measurement.
"""

from typing import Any

import attrs
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.fakes.api import APIResource
from tests.fakes.cdn import Cdn
from tests.fakes.content import RegistryContent
from tests.fakes.faults import Fault, Script
from tests.fakes.images import Image, Index, Piece
from tests.fakes.journal import Journal
from tests.fakes.realm import Realm
from tests.fakes.state import RegistryBehavior, RegistryState
from tests.fakes.tokens import Tokens


@attrs.define(eq=False)
class _ReopenablePort:
    """A listening port that can be closed and opened again. The reactor is also the clock."""

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
        """Stop listening, and abort every connection."""
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

    `journal` has the requests and what was sent, `behavior` the options; `play` and `throttle`
    change it while it runs. `hosts` and `ports` are the API's, the token service's and the CDN's.
    """

    _reactor: Any
    behavior: RegistryBehavior = attrs.field(factory=RegistryBehavior)
    hosts: tuple[str, str, str] = ("127.0.0.1", "127.0.0.1", "127.0.0.1")
    ports: tuple[int, int, int] = (0, 0, 0)
    _state: RegistryState = attrs.field(init=False)
    _ports: tuple[_ReopenablePort, _ReopenablePort, _ReopenablePort] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._state = state = RegistryState(self._reactor, self.behavior)
        api, realm, cdn = (
            _ReopenablePort(self._reactor, resource, host, port)
            for resource, host, port in zip(
                (APIResource(state), Realm(state), Cdn(state)), self.hosts, self.ports, strict=True
            )
        )
        self._ports = api, realm, cdn

    @property
    def url(self) -> str:
        """The URL of the API, without a path."""
        return self._ports[0].origin

    @property
    def realm_url(self) -> str:
        """The URL of the token service, without a path."""
        return self._ports[1].origin

    @property
    def cdn_url(self) -> str:
        """The URL of the CDN, without a path."""
        return self._ports[2].origin

    @property
    def journal(self) -> Journal:
        """The requests and what was sent."""
        return self._state.journal

    @property
    def script(self) -> Script:
        """The fault script."""
        return self._state.script

    @property
    def tokens(self) -> Tokens:
        """The tokens that were issued."""
        return self._state.tokens

    @property
    def content(self) -> RegistryContent:
        """The content that can be pulled."""
        return self._state.content

    async def up(self) -> None:
        """Listen; the second time on the same ports."""
        for door in self._ports:
            door.open()
        self._state.realm_origin, self._state.cdn_origin = self.realm_url, self.cdn_url

    async def down(self) -> None:
        """Close the ports and every connection; content and journal stay."""
        for door in self._ports:
            await door.close()

    def put(self, content: Image | Index, repository: str = "library/app", tag: str | None = "latest") -> str:
        """Push an image or an index; return the digest of its manifest."""
        return self.content.put(repository, content, tag)

    def put_blob(self, content: bytes, repository: str = "library/app") -> Piece:
        """Push a single blob."""
        return self.content.put_blob(repository, content)

    def play(self, *faults: Fault) -> None:
        """Append to the fault script."""
        self.script.add(faults)

    def heal(self) -> None:
        """Delete the fault script."""
        self.script.clear()

    def throttle(self, rate: float | None, digest: str | None = None) -> None:
        """Limit each response to `rate` bytes per second: those of one digest, or of all others."""
        if digest is None:
            self._state.rates.rate = rate
        else:
            self._state.rates.of_digest[digest] = rate
