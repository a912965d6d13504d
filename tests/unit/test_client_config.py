"""The recipes are valid TOML, YAML and JSON, and equal to those of docs/clients.md."""

import json
import re
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.client_config import RECIPES, ClientRecipe, MirrorAddress, Registry

HUB, GHCR = Registry("docker.io", "dockerhub"), Registry("ghcr.io", "ghcr")
PLAIN = MirrorAddress(url="http://mirror.lan:5000", registries=(HUB, GHCR))
SECURE = MirrorAddress(url="https://mirror.lan:5000", registries=(HUB, GHCR), ca="PEM\n")


def texts(recipe: ClientRecipe) -> dict[str, str]:
    return {file.path: file.text for file in recipe.files}


class RecipeTests(SynchronousTestCase):
    def test_documented(self) -> None:
        """The files for docker.io in docs/clients.md equal the recipes, except for empty lines."""
        page = (Path(__file__).parents[2] / "docs/clients.md").read_text("utf-8")
        blocks = re.findall(r"^```(?:json|toml)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        hub = MirrorAddress(url="http://mirror.lan:5000", registries=(HUB,))
        for client in ("docker", "containerd", "podman", "buildkit"):
            text = RECIPES[client](hub).files[0].text
            self.assertIn(
                text.replace("\n\n", "\n"), [block.replace("\n\n", "\n") for block in blocks], client
            )

    def test_toml(self) -> None:
        """Every TOML file is valid, with and without TLS."""
        for mirror in (PLAIN, SECURE):
            for client, make in RECIPES.items():
                for path, text in texts(make(mirror)).items():
                    if path.endswith((".toml", ".conf")):
                        self.assertTrue(tomllib.loads(text), f"{client}: {path}")

    def test_docker(self) -> None:
        """Docker has Docker Hub in daemon.json, and a hosts.toml for each other registry."""
        files = texts(RECIPES["docker"](PLAIN))
        self.assertEqual(
            json.loads(files["/etc/docker/daemon.json"]), {"registry-mirrors": ["http://mirror.lan:5000"]}
        )
        hosts = tomllib.loads(files["/etc/docker/certs.d/ghcr.io/hosts.toml"])
        self.assertEqual(hosts["server"], "https://ghcr.io")
        self.assertEqual(list(hosts["host"]), ["http://mirror.lan:5000"])

    def test_docker_at_another_listener(self) -> None:
        """Where another registry is the default, daemon.json contains Docker Hub's prefix."""
        files = texts(
            RECIPES["docker"](MirrorAddress(url="http://m", registries=(HUB, GHCR), default="ghcr.io"))
        )
        self.assertIn('"http://m/dockerhub"', files["/etc/docker/daemon.json"])

    def test_podman(self) -> None:
        """Podman uses prefixes; a registry without one, and not the default, is omitted."""
        bare = MirrorAddress(url="http://m", registries=(Registry("docker.io"), Registry("quay.io")))
        conf = tomllib.loads(
            texts(RECIPES["podman"](bare))["/etc/containers/registries.conf.d/50-mirrord.conf"]
        )
        self.assertEqual([one["prefix"] for one in conf["registry"]], ["docker.io"])
        self.assertEqual(conf["registry"][0]["mirror"], [{"location": "m", "insecure": True}])

    def test_trust(self) -> None:
        """The certificate of a mirror with a private CA is placed where each client looks for it."""
        places = {
            "docker": "/etc/docker/certs.d/mirror.lan:5000/ca.crt",
            "containerd": "/etc/containerd/certs.d/mirrord-ca.crt",
            "podman": "/etc/containers/certs.d/mirror.lan:5000/ca.crt",
            "k3s": "/etc/rancher/k3s/mirrord-ca.crt",
            "buildkit": "/etc/buildkit/mirrord-ca.crt",
        }
        self.assertEqual(set(places), set(RECIPES))
        for client, path in places.items():
            self.assertEqual(texts(RECIPES[client](SECURE))[path], "PEM\n", client)
            self.assertNotIn("insecure", str(RECIPES[client](SECURE)))
            self.assertNotIn(path, texts(RECIPES[client](PLAIN)))
        self.assertIn(places["k3s"], texts(RECIPES["k3s"](SECURE))["/etc/rancher/k3s/registries.yaml"])
