from tests.clients.case import APP, MULTI, PASSWORD, USER, ClientCase
from tests.clients.programs import Service, find, run

_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/t.sock"
"""

_HOSTS = """
server = "{url}"
[host."{url}"]
  capabilities = ["pull", "resolve"]
"""


class ContainerdCase(ClientCase):
    def setUp(self) -> None:
        containerd, self.ctr = find("containerd"), find("ctr")
        super().setUp()
        self.place = self.folder / "c"
        hosts = self.place / "hosts" / "docker.io"
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(_HOSTS.format(url=self.daemon.url))
        config = self.place / "config.toml"
        config.write_text(_CONFIG.format(folder=self.place))
        service = Service((containerd, "--config", str(config)), self.folder / "containerd.log")
        self.addCleanup(service.stop)
        service.start((self.place / "c.sock").exists)

    def _ctr(self, *arguments: str, is_good: bool = True) -> str:
        return run(self.ctr, "--address", str(self.place / "c.sock"), *arguments, is_good=is_good)

    def _pull(self, name: str) -> str:
        options = ("--hosts-dir", str(self.place / "hosts"), "--snapshotter", "native")
        self._ctr("images", "pull", *options, f"docker.io/{name}:latest")
        return self._ctr("images", "list")

    def _forget(self, name: str) -> None:
        """Remove an image, and wait until its content has gone too."""
        self._ctr("images", "remove", "--sync", f"docker.io/{name}:latest")
        self.assertNotIn("sha256:", self._ctr("content", "list"))


class ContainerdTests(ContainerdCase):
    def test_pulls_through_its_host_and_again_without_the_upstream(self) -> None:
        """ctr, which says ?ns=docker.io, pulls a tag once; the upstream goes, and ctr pulls it again."""
        before = self._pull(APP)
        self._forget(APP)
        self.let_upstream_go()
        self.assertEqual(self._pull(APP), before)

    def test_pulls_its_architecture_of_an_index(self) -> None:
        """Ctr pulls one architecture of an index, and the same without the upstream."""
        before = self._pull(MULTI)
        self._forget(MULTI)
        self.let_upstream_go()
        self.assertEqual(self._pull(MULTI), before)

    def test_pushes_what_it_pulled(self) -> None:
        """Ctr pushes an image, and pulls the same one back when it has it no more."""
        self._pull(APP)
        pushed = self.pushed
        self._ctr("images", "push", "--plain-http", pushed, f"docker.io/{APP}:latest")
        self._forget(APP)
        self.let_upstream_go()
        self._ctr("images", "pull", "--plain-http", "--snapshotter", "native", pushed)

        self.assertIn(pushed, self._ctr("images", "list"))


class ContainerdLoginTests(ContainerdCase):
    has_users = True

    def test_pushes_with_credentials(self) -> None:
        """Ctr pulls without credentials, pushes with them only, and what it pushed everybody pulls."""
        self._pull(APP)
        push = ("images", "push", "--plain-http")
        self._ctr(*push, self.pushed, f"docker.io/{APP}:latest", is_good=False)
        credentials = ("--user", f"{USER}:{PASSWORD}")
        self._ctr(*push, *credentials, self.pushed, f"docker.io/{APP}:latest")
        self._forget(APP)
        self._ctr("images", "pull", "--plain-http", "--snapshotter", "native", self.pushed)
        self.assertIn(self.pushed, self._ctr("images", "list"))
