import json

from tests.clients.case import APP, MULTI, PUSHED, ClientCase
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


class PodmanTests(ClientCase):
    def setUp(self) -> None:
        self.podman = find("podman")
        super().setUp()
        self.registries = self.folder / "registries.conf"
        self.registries.write_text(_REGISTRIES.format(port=self.daemon.port))
        self.policy = self.folder / "policy.json"
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def _podman(self, *arguments: str) -> str:
        places = (
            "--root",
            str(self.folder / "p"),
            "--runroot",
            str(self.folder / "r"),
            "--tmpdir",
            str(self.folder / "t"),
        )
        environment = {"CONTAINERS_REGISTRIES_CONF": str(self.registries)}
        return run(self.podman, *places, "--storage-driver=vfs", *arguments, environment=environment)

    def _pull(self, name: str) -> str:
        said = self._podman("pull", "-q", "--signature-policy", str(self.policy), f"docker.io/{name}:latest")
        return said.strip().splitlines()[-1]

    def test_pulls_through_its_mirror_and_again_without_the_upstream(self) -> None:
        """podman, told of a mirror for docker.io, pulls an image, and again when the upstream has gone."""
        image = self._pull(APP)
        self._podman("rmi", "-f", image)
        self.let_upstream_go()
        self.assertEqual(self._pull(APP), image)

    def test_pulls_its_architecture_of_an_index(self) -> None:
        """Podman pulls an index by its tag, and one architecture of it by digest."""
        image = self._pull(MULTI)
        self.assertIn(image, self._podman("images", "-q", "--no-trunc"))

    def test_pushes_what_it_pulled(self) -> None:
        """Podman pushes an image, and pulls the same one back when it has it no more."""
        image, pushed = self._pull(APP), f"127.0.0.1:{self.daemon.port}/{PUSHED}:v1"
        policy = ("--signature-policy", str(self.policy), "--tls-verify=false")
        self._podman("push", *policy, image, pushed)
        self._podman("rmi", "-f", image)
        self.let_upstream_go()
        said = self._podman("pull", "-q", *policy, pushed)

        self.assertEqual(image, said.strip().splitlines()[-1])
