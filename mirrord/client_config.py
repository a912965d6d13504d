"""Configuration files that point clients at a mirror, as explained in docs/clients.md.

Clients name the registry in different ways: containerd and its relatives send `?ns=`, podman and BuildKit
need a prefix in the path, docker's own image store knows Docker Hub only. So a recipe is generated from
the registries that are mirrored, and contains no others.
"""

from collections.abc import Callable, Mapping

import attrs

from mirrord.oci.names import DOCKER_HUB


@attrs.frozen
class Registry:
    """A mirrored registry; `prefix` is its path component at the mirror, None where it has none."""

    name: str
    prefix: str | None = None

    @property
    def url(self) -> str:
        """The URL that clients use without a mirror."""
        return f"https://{'registry-1.docker.io' if self.name == DOCKER_HUB else self.name}"


@attrs.frozen(kw_only=True)
class MirrorAddress:
    """A mirror as clients reach it.

    `url` is scheme, host and port. `default` is the registry of requests that name none. `ca` is the PEM of
    the certificates that clients must trust; empty where they do already.
    """

    url: str
    registries: tuple[Registry, ...]
    default: str = DOCKER_HUB
    ca: str = ""

    @property
    def authority(self) -> str:
        """The host and port."""
        return self.url.partition("://")[2]

    @property
    def is_secure(self) -> bool:
        """Return whether clients use TLS."""
        return self.url.startswith("https:")

    def location(self, registry: Registry) -> str | None:
        """Return the address of this registry for a client that never sends `?ns=`; None if it has none."""
        if registry.prefix is not None:
            return f"{self.authority}/{registry.prefix}"
        return self.authority if registry.name == self.default else None


@attrs.frozen
class ClientFile:
    """A file on the client's host: its absolute path and its content."""

    path: str
    text: str


@attrs.frozen
class ClientRecipe:
    """The files for one client, and instructions to apply them."""

    files: tuple[ClientFile, ...]
    instructions: str


def docker(mirror: MirrorAddress) -> ClientRecipe:
    """Return Docker Hub for every docker, others for docker 28 and later with the containerd image store."""
    hub = next((one for one in mirror.registries if one.name == DOCKER_HUB), None)
    files = [] if hub is None else [_daemon_json(mirror, hub)]
    files += [
        _hosts_toml(mirror, one, "/etc/docker/certs.d", ca_file=None)
        for one in mirror.registries
        if one.name != DOCKER_HUB
    ]
    files += _ca(mirror, f"/etc/docker/certs.d/{mirror.authority}/ca.crt")
    return ClientRecipe(
        tuple(files),
        "Then: systemctl reload docker. Registries other than docker.io need docker 28 or later with the "
        "containerd image store.",
    )


def containerd(mirror: MirrorAddress) -> ClientRecipe:
    """Return a folder for each registry."""
    folder = "/etc/containerd/certs.d"
    ca = _ca(mirror, f"{folder}/mirrord-ca.crt")
    ca_file = ca[0].path if ca else None
    files = [_hosts_toml(mirror, one, folder, ca_file=ca_file) for one in mirror.registries]
    return ClientRecipe(
        (*files, *ca),
        "Read at every pull. Kubernetes needs this once in /etc/containerd/config.toml, and a restart:\n"
        f'  [plugins."io.containerd.cri.v1.images".registry]   # containerd 1: io.containerd.grpc.v1.cri\n'
        f'    config_path = "{folder}"',
    )


def podman(mirror: MirrorAddress) -> ClientRecipe:
    """Return one file for podman, CRI-O, skopeo and buildah."""
    insecure = "" if mirror.is_secure else "insecure = true\n"
    tables = [
        f'[[registry]]\nprefix = "{one.name}"\nlocation = "{one.name}"\n\n'
        f'[[registry.mirror]]\nlocation = "{location}"\n{insecure}'
        for one in mirror.registries
        if (location := mirror.location(one))
    ]
    conf = ClientFile("/etc/containers/registries.conf.d/50-mirrord.conf", "\n".join(tables))
    return ClientRecipe(
        (conf, *_ca(mirror, f"/etc/containers/certs.d/{mirror.authority}/ca.crt")),
        "Read at every pull; CRI-O: systemctl reload crio.",
    )


def k3s(mirror: MirrorAddress) -> ClientRecipe:
    """Return `registries.yaml`, from which k3s generates containerd's own files."""
    ca = _ca(mirror, "/etc/rancher/k3s/mirrord-ca.crt")
    lines = ["mirrors:"]
    for one in mirror.registries:
        lines += [f'  "{one.name}":', f'    endpoint: ["{mirror.url}"]']
    if ca:
        lines += ["configs:", f'  "{mirror.authority}":', "    tls:", f"      ca_file: {ca[0].path}"]
    yaml = ClientFile("/etc/rancher/k3s/registries.yaml", "\n".join(lines) + "\n")
    return ClientRecipe((yaml, *ca), "Then: systemctl restart k3s (on an agent: k3s-agent).")


def buildkit(mirror: MirrorAddress) -> ClientRecipe:
    """Return `buildkitd.toml`; BuildKit uses the prefix, and sends `?ns=` as well."""
    path = "/etc/buildkit/buildkitd.toml"
    ca = _ca(mirror, "/etc/buildkit/mirrord-ca.crt")
    tables = [
        f'[registry."{one.name}"]\n  mirrors = ["{location}"]\n'
        for one in mirror.registries
        if (location := mirror.location(one))
    ]
    if not mirror.is_secure:
        tables.append(f'[registry."{mirror.authority}"]\n  http = true\n')
    elif ca:
        tables.append(f'[registry."{mirror.authority}"]\n  ca = ["{ca[0].path}"]\n')
    return ClientRecipe(
        (ClientFile(path, "\n".join(tables)), *ca),
        f"Then restart buildkitd, or: docker buildx create --config {path} --use.",
    )


RECIPES: Mapping[str, Callable[[MirrorAddress], ClientRecipe]] = {
    "docker": docker,
    "containerd": containerd,
    "podman": podman,
    "k3s": k3s,
    "buildkit": buildkit,
}


def _daemon_json(mirror: MirrorAddress, hub: Registry) -> ClientFile:
    """Return `daemon.json`; the path contains the prefix where requests without it mean another registry."""
    path = "" if mirror.default == DOCKER_HUB or hub.prefix is None else f"/{hub.prefix}"
    return ClientFile("/etc/docker/daemon.json", f'{{ "registry-mirrors": ["{mirror.url}{path}"] }}\n')


def _hosts_toml(mirror: MirrorAddress, registry: Registry, folder: str, *, ca_file: str | None) -> ClientFile:
    ca = "" if ca_file is None else f'  ca = "{ca_file}"\n'
    return ClientFile(
        f"{folder}/{registry.name}/hosts.toml",
        f'server = "{registry.url}"\n\n[host."{mirror.url}"]\n  capabilities = ["pull", "resolve"]\n{ca}',
    )


def _ca(mirror: MirrorAddress, path: str) -> list[ClientFile]:
    return [ClientFile(path, mirror.ca)] if mirror.ca else []
