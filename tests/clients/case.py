"""The fixture of tests with real clients: Debian's docker-registry with images, behind mirrord."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import bcrypt
from twisted.trial.unittest import SynchronousTestCase

from tests.clients.programs import Service, find, run
from tests.fakes.images import Image, Index, Piece, make_image, make_index
from tests.integration.daemon import Daemon, Settings, free_port

APP = "library/mirrord-test"
DERIVED = "library/mirrord-derived"
MULTI = "library/mirrord-multi"

PUSHED = "team/app"

_HOSTED = """
[hosted]
repositories = ["team/*"]
push_from_loopback = true
"""

USER, PASSWORD = "ann", "correct horse"

_ACCESS = """
[access]
htpasswd = "{htpasswd}"
[[access.rules]]
repositories = ["team/*"]
pull = ["anonymous"]
push = ["users"]
delete = ["users"]
[[access.rules]]
repositories = ["docker.io/*"]
pull = ["anonymous"]
"""

_REGISTRY = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def write_layout(folder: Path, content: Image | Index) -> None:
    """Write an OCI image layout of one image or index, tagged `latest`."""
    images = content.images if isinstance(content, Index) else (content,)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    pieces: list[Piece] = [content.manifest]
    for image in images:
        pieces += [image.manifest, *image.blobs]
    for piece in pieces:
        (blobs / piece.digest.removeprefix("sha256:")).write_bytes(piece.content)
    named = content.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": "latest"})
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))


class ClientCase(SynchronousTestCase):
    """A real registry, which a test can stop, and a mirrord in front of it.

    With `has_users` everyone may pull, and only USER may push and delete.
    """

    has_users = False

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mc-", dir="/tmp"))
        self.addCleanup(self._clean)
        registry, skopeo = find("docker-registry"), find("skopeo")
        port = free_port()
        config = self.folder / "registry.yml"
        config.write_text(_REGISTRY.format(root=self.folder / "registry", port=port))
        self.registry = Service((registry, "serve", str(config)), self.folder / "registry.log")
        self.addCleanup(self.registry.stop)
        self.registry.start(lambda: _responds(f"http://127.0.0.1:{port}/v2/"))
        index = make_index([make_image([70_000], seed=2), make_image([70_000], 3, "arm64")])
        app = make_image([12_000_000, 300_000, 5_000], seed=1)
        # The next image has the same base layer.
        derived = make_image([20_000], seed=4, base=app.layers[:1])
        for name, content in ((APP, app), (DERIVED, derived), (MULTI, index)):
            layout = self.folder / name.replace("/", "-")
            write_layout(layout, content)
            target = f"docker://127.0.0.1:{port}/{name}:latest"
            run(skopeo, "copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:latest", target)
        extra = _HOSTED + (self._write_users() if self.has_users else "")
        settings = Settings(f"http://127.0.0.1:{port}", tag_ttl="100ms", more=extra)
        self.daemon = Daemon(self.folder / "mirrord", settings)
        self.addCleanup(self.daemon.kill)
        self.addCleanup(self.assert_clean_shutdown)
        self.daemon.start()

    @property
    def pushed(self) -> str:
        """The reference under which clients push."""
        return f"127.0.0.1:{self.daemon.port}/{PUSHED}:v1"

    def _write_users(self) -> str:
        file = self.folder / "htpasswd"
        file.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()}\n")
        return _ACCESS.format(htpasswd=file)

    def assert_clean_shutdown(self) -> None:
        """Stop the daemon: it exits with status 0 and has logged no traceback."""
        self.daemon.stop()
        self.assertEqual(self.daemon.bad_lines(), [], self.daemon.log[-6000:])

    def wait_until_complete(self, name: str) -> None:
        """Wait until all of an image is stored, and confirmed for its repository."""
        deadline = time.monotonic() + 10
        while not self.daemon.is_complete(f"docker.io/{name}:latest"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def stop_upstream(self) -> None:
        """Stop the registry once all that was pulled is stored, and let all cached tags become stale."""
        deadline = time.monotonic() + 10
        while not self.daemon.is_settled and time.monotonic() < deadline:
            time.sleep(0.05)
        self.registry.stop()
        time.sleep(0.2)

    def _clean(self) -> None:
        """Remove all mounts and files that clients have left."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for target in reversed([line.split()[1] for line in mounts]):
            if target.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", target], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _responds(url: str) -> bool:
    with contextlib.suppress(OSError), urlopen(url, timeout=1) as response:
        return bool(response.status == 200)
    return False
