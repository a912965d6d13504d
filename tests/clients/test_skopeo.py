from hashlib import sha256

from tests.clients.case import APP, MULTI, PASSWORD, PUSHED, USER, ClientCase
from tests.clients.programs import find, run


class SkopeoTests(ClientCase):
    def _copy(self, name: str, place: str, *options: str, tag: str = "latest") -> None:
        source = f"docker://127.0.0.1:{self.daemon.port}/{name}:{tag}"
        run(find("skopeo"), "copy", *options, "--src-tls-verify=false", source, f"dir:{self.folder / place}")

    def test_copies_through_the_mirror_and_without_the_upstream(self) -> None:
        """Skopeo copies an image through mirrord, and again when the upstream has gone."""
        self._copy(APP, "first")
        self.let_upstream_go()
        self._copy(APP, "second")
        first = {
            path.name: sha256(path.read_bytes()).hexdigest() for path in (self.folder / "first").iterdir()
        }
        second = {
            path.name: sha256(path.read_bytes()).hexdigest() for path in (self.folder / "second").iterdir()
        }
        self.assertEqual(first, second)
        self.assertEqual(len(first), 4 + 2)

    def test_copies_all_of_an_index_by_its_prefix(self) -> None:
        """Skopeo finds docker.io under its prefix, and copies every architecture of an index."""
        self._copy(f"dockerhub/{MULTI}", "all", "--all")
        self.assertEqual(len(list((self.folder / "all").glob("*.manifest.json"))), 2)

    def test_lists_tags(self) -> None:
        """Skopeo lists the tags that the upstream has."""
        said = run(
            find("skopeo"), "list-tags", "--tls-verify=false", f"docker://127.0.0.1:{self.daemon.port}/{APP}"
        )
        self.assertIn('"latest"', said)

    def test_what_is_missing_is_missing(self) -> None:
        """Skopeo is told plainly that a tag does not exist."""
        source = f"docker://127.0.0.1:{self.daemon.port}/{APP}:nothing"
        said = run(find("skopeo"), "inspect", "--tls-verify=false", source, is_good=False)
        self.assertIn("manifest unknown", said.lower())

    def test_pushes_and_deletes(self) -> None:
        """Skopeo pushes an index with all its images, copies it back byte for byte, and deletes it."""
        layout = f"oci:{self.folder / MULTI.replace('/', '-')}:latest"
        pushed = f"docker://{self.pushed}"
        insecure = "--tls-verify=false"
        run(find("skopeo"), "copy", "--all", "--dest-tls-verify=false", layout, pushed)
        self.let_upstream_go()
        self._copy(PUSHED, "back", "--all", tag="v1")
        self.assertEqual(2, len(list((self.folder / "back").glob("*.manifest.json"))))
        run(find("skopeo"), "delete", insecure, pushed)

        said = run(find("skopeo"), "inspect", insecure, pushed, is_good=False)
        self.assertIn("manifest unknown", said.lower())


class SkopeoLoginTests(ClientCase):
    has_users = True

    def test_pushes_with_credentials(self) -> None:
        """Skopeo pushes and deletes with a password only, a right one, and reads without."""
        skopeo, pushed = find("skopeo"), f"docker://{self.pushed}"
        copy = ("copy", "--dest-tls-verify=false", f"oci:{self.folder / APP.replace('/', '-')}:latest")
        inspect = (skopeo, "inspect", "--tls-verify=false", "--no-creds", pushed)
        delete = (skopeo, "delete", "--tls-verify=false", pushed)
        run(skopeo, *copy, pushed, is_good=False)
        run(skopeo, *copy, "--dest-creds", f"{USER}:wrong", pushed, is_good=False)
        run(skopeo, *copy, "--dest-creds", f"{USER}:{PASSWORD}", pushed)
        self.assertIn("sha256:", run(*inspect))
        run(*delete, is_good=False)
        run(*delete, "--creds", f"{USER}:{PASSWORD}")
        run(*inspect, is_good=False)
