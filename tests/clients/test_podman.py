import json

from tests.clients.case import APP, DERIVED, MULTI, PASSWORD, USER, ClientCase
from tests.clients.programs import find, run

_REGISTRIES = """
unqualified-search-registries = []
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "127.0.0.1:{port}"
insecure = true
"""


class PodmanCase(ClientCase):
    def setUp(self) -> None:
        self.podman = find("podman")
        super().setUp()
        self.host = self.folder
        self.registries = self.folder / "registries.conf"
        self.registries.write_text(_REGISTRIES.format(port=self.daemon.port))
        self.policy = self.folder / "policy.json"
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.logins = self.folder / "auth.json"
        self.logins.write_text("{}")
        self.options = ("--signature-policy", str(self.policy), "--tls-verify=false")

    def _podman(self, *arguments: str, is_good: bool = True) -> str:
        folders = (
            "--root",
            str(self.host / "p"),
            "--runroot",
            str(self.host / "r"),
            "--tmpdir",
            str(self.host / "t"),
        )
        environment = {
            "CONTAINERS_REGISTRIES_CONF": str(self.registries),
            "REGISTRY_AUTH_FILE": str(self.logins),
        }
        command = (self.podman, *folders, "--storage-driver=vfs", *arguments)
        return run(*command, environment=environment, is_good=is_good)

    def _pull(self, name: str) -> str:
        output = self._podman(
            "pull", "-q", "--signature-policy", str(self.policy), f"docker.io/{name}:latest"
        )
        return output.strip().splitlines()[-1]


class PodmanTests(PodmanCase):
    def test_pulls_through_its_mirror_and_again_without_the_upstream(self) -> None:
        """Podman, with a mirror for docker.io, pulls an image, and again after the upstream has stopped."""
        image = self._pull(APP)
        self._podman("rmi", "-f", image)
        self.stop_upstream()
        self.assertEqual(self._pull(APP), image)

    def test_pulls_its_architecture_of_an_index(self) -> None:
        """Podman pulls an index by its tag, and one architecture of it by digest."""
        image = self._pull(MULTI)
        self.assertIn(image, self._podman("images", "-q", "--no-trunc"))

    def test_pulls_a_shared_layer_without_the_upstream(self) -> None:
        """A host with the base layer pulls an image; then, without the upstream, an empty host pulls it."""
        self._pull(APP)
        image = self._pull(DERIVED)
        self.wait_until_complete(DERIVED)
        self.stop_upstream()
        self.host = self.folder / "empty"
        self.assertEqual(self._pull(DERIVED), image)

    def test_pushes_what_it_pulled(self) -> None:
        """Podman pushes an image, and pulls it back after deleting it."""
        image = self._pull(APP)
        self._podman("push", *self.options, image, self.pushed)
        self._podman("rmi", "-f", image)
        self.stop_upstream()
        output = self._podman("pull", "-q", *self.options, self.pushed)

        self.assertEqual(image, output.strip().splitlines()[-1])


class PodmanLoginTests(PodmanCase):
    has_users = True

    def test_pushes_when_it_is_logged_in(self) -> None:
        """Podman needs a login to push, and none to pull mirrored or pushed images."""
        image = self._pull(APP)
        self._podman("push", *self.options, image, self.pushed, is_good=False)
        registry = self.pushed.partition("/")[0]
        self._podman("login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, registry)
        self._podman("push", *self.options, image, self.pushed)
        self._podman("logout", registry)
        self._podman("rmi", "-f", image)
        output = self._podman("pull", "-q", *self.options, self.pushed)
        self.assertEqual(image, output.strip().splitlines()[-1])
