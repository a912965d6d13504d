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
        self.root = self.folder / "c"
        hosts = self.root / "hosts" / "docker.io"
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(_HOSTS.format(url=self.daemon.url))
        config = self.root / "config.toml"
        config.write_text(_CONFIG.format(folder=self.root))
        service = Service((containerd, "--config", str(config)), self.folder / "containerd.log")
        self.addCleanup(service.stop)
        service.start((self.root / "c.sock").exists)

    def _ctr(self, *arguments: str, is_good: bool = True) -> str:
        return run(self.ctr, "--address", str(self.root / "c.sock"), *arguments, is_good=is_good)

    def _pull(self, name: str) -> str:
        options = ("--hosts-dir", str(self.root / "hosts"), "--snapshotter", "native")
        self._ctr("images", "pull", *options, f"docker.io/{name}:latest")
        return self._ctr("images", "list")

    def _remove(self, name: str) -> None:
        """Remove an image, and wait until its content is deleted too."""
        self._ctr("images", "remove", "--sync", f"docker.io/{name}:latest")
        self.assertNotIn("sha256:", self._ctr("content", "list"))


class ContainerdTests(ContainerdCase):
    def test_pulls_through_its_host_and_again_without_the_upstream(self) -> None:
        """ctr, which sends ?ns=docker.io, pulls a tag, and again after the upstream has stopped."""
        before = self._pull(APP)
        self._remove(APP)
        self.stop_upstream()
        self.assertEqual(self._pull(APP), before)

    def test_pulls_its_architecture_of_an_index(self) -> None:
        """Ctr pulls one architecture of an index, with and without the upstream."""
        before = self._pull(MULTI)
        self._remove(MULTI)
        self.stop_upstream()
        self.assertEqual(self._pull(MULTI), before)

    def test_pushes_what_it_pulled(self) -> None:
        """Ctr pushes an image, and pulls it back after deleting it."""
        self._pull(APP)
        pushed = self.pushed
        self._ctr("images", "push", "--plain-http", pushed, f"docker.io/{APP}:latest")
        self._remove(APP)
        self.stop_upstream()
        self._ctr("images", "pull", "--plain-http", "--snapshotter", "native", pushed)

        self.assertIn(pushed, self._ctr("images", "list"))


class ContainerdLoginTests(ContainerdCase):
    has_users = True

    def test_pushes_with_credentials(self) -> None:
        """Ctr needs credentials to push, and none to pull mirrored or pushed images."""
        self._pull(APP)
        push = ("images", "push", "--plain-http")
        self._ctr(*push, self.pushed, f"docker.io/{APP}:latest", is_good=False)
        credentials = ("--user", f"{USER}:{PASSWORD}")
        self._ctr(*push, *credentials, self.pushed, f"docker.io/{APP}:latest")
        self._remove(APP)
        self._ctr("images", "pull", "--plain-http", "--snapshotter", "native", self.pushed)
        self.assertIn(self.pushed, self._ctr("images", "list"))
