import contextlib
from pathlib import Path

from tests.clients.case import APP, MULTI, PASSWORD, USER, ClientCase
from tests.clients.programs import Service, find, run


class DockerCase(ClientCase):
    def setUp(self) -> None:
        self.docker, dockerd = find("docker"), find("dockerd")
        find("containerd")
        find("runc")
        super().setUp()
        self.socket = self.folder / "d.sock"
        command = (
            *(dockerd, "--data-root", str(self.folder / "d"), "--exec-root", str(self.folder / "e")),
            *("-H", f"unix://{self.socket}", "--pidfile", str(self.folder / "d.pid")),
            *("--config-file", str(self._write("daemon.json", "{}"))),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"),
            *("--registry-mirror", self.daemon.url),
        )
        service = Service(command, self.folder / "dockerd.log")
        self.addCleanup(service.stop)
        service.start(self._is_ready)

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _is_ready(self) -> bool:
        with contextlib.suppress(AssertionError):
            return self.socket.exists() and "Server Version" in self._docker("info")
        return False

    def _docker(self, *arguments: str, is_good: bool = True) -> str:
        environment = {"DOCKER_CONFIG": str(self.folder / "config"), "DOCKER_CONTEXT": ""}
        host = ("-H", f"unix://{self.socket}")
        return run(self.docker, *host, *arguments, environment=environment, is_good=is_good)


class DockerTests(DockerCase):
    def test_pulls_through_its_mirror_and_again_without_the_upstream(self) -> None:
        """Docker pulls a tag, deletes the image, and pulls it again after the upstream has stopped."""
        name = APP.removeprefix("library/")
        self.assertIn("Downloaded newer image", self._docker("pull", name))
        before = self._docker("images", "--digests", "--no-trunc", name)
        self._docker("rmi", name)
        self.stop_upstream()
        self.assertIn("Downloaded newer image", self._docker("pull", name))
        self.assertEqual(self._docker("images", "--digests", "--no-trunc", name), before)

    def test_pulls_its_architecture_of_an_index(self) -> None:
        """Docker pulls one architecture of an index, with and without the upstream."""
        name = MULTI.removeprefix("library/")
        self.assertIn("Downloaded newer image", self._docker("pull", name))
        self._docker("rmi", name)
        self.stop_upstream()
        self.assertIn("Downloaded newer image", self._docker("pull", name))

    def test_pushes_what_it_pulled(self) -> None:
        """Docker pushes an image to the mirror from which it pulled it, and pulls it back."""
        name, pushed = APP.removeprefix("library/"), self.pushed
        self._docker("pull", name)
        self._docker("tag", name, pushed)
        self.stop_upstream()
        self.assertIn("digest: sha256:", self._docker("push", pushed))
        self._docker("rmi", name, pushed)

        self.assertIn("Downloaded newer image", self._docker("pull", pushed))


class DockerLoginTests(DockerCase):
    has_users = True

    def test_pushes_when_it_is_logged_in(self) -> None:
        """Docker needs a login to push, and none to pull mirrored or pushed images."""
        name = APP.removeprefix("library/")
        self._docker("pull", name)
        self._docker("tag", name, self.pushed)
        self.assertIn("denied", self._docker("push", self.pushed, is_good=False))
        registry = self.pushed.partition("/")[0]
        self._docker("login", "-u", USER, "-p", "wrong", registry, is_good=False)
        self._docker("login", "-u", USER, "-p", PASSWORD, registry)
        self.assertIn("digest: sha256:", self._docker("push", self.pushed))
        self._docker("logout", registry)
        self._docker("rmi", name, self.pushed)
        self.stop_upstream()
        self.assertIn("Downloaded newer image", self._docker("pull", self.pushed))
