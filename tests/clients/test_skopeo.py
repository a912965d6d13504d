from hashlib import sha256

from tests.clients.case import APP, MULTI, PASSWORD, PUSHED, USER, ClientCase
from tests.clients.programs import find, run


class SkopeoTests(ClientCase):
    def _copy(self, name: str, folder: str, *options: str, tag: str = "latest") -> None:
        source = f"docker://127.0.0.1:{self.daemon.port}/{name}:{tag}"
        run(find("skopeo"), "copy", *options, "--src-tls-verify=false", source, f"dir:{self.folder / folder}")

    def test_copies_through_the_mirror_and_without_the_upstream(self) -> None:
        """Skopeo copies an image through mirrord, and again after the upstream has stopped."""
        self._copy(APP, "first")
        self.stop_upstream()
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
        """Skopeo reaches docker.io by its prefix, and copies every architecture of an index."""
        self._copy(f"dockerhub/{MULTI}", "all", "--all")
        self.assertEqual(len(list((self.folder / "all").glob("*.manifest.json"))), 2)

    def test_lists_tags(self) -> None:
        """Skopeo lists the tags of the upstream."""
        output = run(
            find("skopeo"), "list-tags", "--tls-verify=false", f"docker://127.0.0.1:{self.daemon.port}/{APP}"
        )
        self.assertIn('"latest"', output)

    def test_missing_tag(self) -> None:
        """Skopeo reports that a missing tag is unknown."""
        source = f"docker://127.0.0.1:{self.daemon.port}/{APP}:nothing"
        output = run(find("skopeo"), "inspect", "--tls-verify=false", source, is_good=False)
        self.assertIn("manifest unknown", output.lower())

    def test_pushes_and_deletes(self) -> None:
        """Skopeo pushes an index with all its images, copies it back, and deletes it."""
        layout = f"oci:{self.folder / MULTI.replace('/', '-')}:latest"
        pushed = f"docker://{self.pushed}"
        insecure = "--tls-verify=false"
        run(find("skopeo"), "copy", "--all", "--dest-tls-verify=false", layout, pushed)
        self.stop_upstream()
        self._copy(PUSHED, "back", "--all", tag="v1")
        self.assertEqual(2, len(list((self.folder / "back").glob("*.manifest.json"))))
        run(find("skopeo"), "delete", insecure, pushed)

        output = run(find("skopeo"), "inspect", insecure, pushed, is_good=False)
        self.assertIn("manifest unknown", output.lower())


class SkopeoLoginTests(ClientCase):
    has_users = True

    def test_pushes_with_credentials(self) -> None:
        """Skopeo needs the right password to push and delete, and none to read."""
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
