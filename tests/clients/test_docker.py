import contextlib
from pathlib import Path

from tests.clients.case import APP, MULTI, PUSHED, ClientCase
from tests.clients.programs import Service, find, run


class DockerTests(ClientCase):
    def setUp(self) -> None:
        self.docker, dockerd = find("docker"), find("dockerd")
        find("containerd")
        find("runc")
        super().setUp()
        self.socket = self.folder / "d.sock"
        command = (
            *(dockerd, "--data-root", str(self.folder / "d"), "--exec-root", str(self.folder / "e")),
            *("-H", f"unix://{self.socket}", "--pidfile", str(self.folder / "d.pid")),
            *("--config-file", str(self._empty("daemon.json", "{}"))),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"),
            *("--registry-mirror", self.daemon.url),
        )
        service = Service(command, self.folder / "dockerd.log")
        self.addCleanup(service.stop)
        service.start(self._is_ready)

    def _empty(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _is_ready(self) -> bool:
        with contextlib.suppress(AssertionError):
            return self.socket.exists() and "Server Version" in self._docker("info")
        return False

    def _docker(self, *arguments: str) -> str:
        environment = {"DOCKER_CONFIG": str(self.folder / "config"), "DOCKER_CONTEXT": ""}
        return run(self.docker, "-H", f"unix://{self.socket}", *arguments, environment=environment)

    def test_pulls_through_its_mirror_and_again_without_the_upstream(self) -> None:
        """Docker pulls a tag once; the upstream goes, the image is deleted, and docker pulls it again."""
        name = APP.removeprefix("library/")
        self.assertIn("Downloaded newer image", self._docker("pull", name))
        before = self._docker("images", "--digests", "--no-trunc", name)
        self._docker("rmi", name)
        self.let_upstream_go()
        self.assertIn("Downloaded newer image", self._docker("pull", name))
        self.assertEqual(self._docker("images", "--digests", "--no-trunc", name), before)

    def test_pulls_its_architecture_of_an_index(self) -> None:
        """Docker pulls one architecture of an index, and the same without the upstream."""
        name = MULTI.removeprefix("library/")
        self.assertIn("Downloaded newer image", self._docker("pull", name))
        self._docker("rmi", name)
        self.let_upstream_go()
        self.assertIn("Downloaded newer image", self._docker("pull", name))

    def test_pushes_what_it_pulled(self) -> None:
        """Docker pushes an image beside the mirror that it came from, and pulls it back from there."""
        name, pushed = APP.removeprefix("library/"), f"127.0.0.1:{self.daemon.port}/{PUSHED}:v1"
        self._docker("pull", name)
        self._docker("tag", name, pushed)
        self.let_upstream_go()
        self.assertIn("digest: sha256:", self._docker("push", pushed))
        self._docker("rmi", name, pushed)

        self.assertIn("Downloaded newer image", self._docker("pull", pushed))
