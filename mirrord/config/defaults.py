"""What is there without any file, as the tables that a file would hold; and the file's own laid over it.

The environment decides some of it: where the cache is, and which proxies lead outside.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mirrord.config.types import is_name
from mirrord.oci.names import DOCKER_HUB

DOCKER_HUB_REALM = "https://auth.docker.io"

UPSTREAMS: tuple[dict[str, Any], ...] = (
    {
        "name": DOCKER_HUB,
        "url": "https://registry-1.docker.io",
        "prefix": "dockerhub",
        "realm": DOCKER_HUB_REALM,
    },
    {"name": "ghcr.io", "url": "https://ghcr.io", "prefix": "ghcr"},
    {"name": "quay.io", "url": "https://quay.io", "prefix": "quay"},
    {"name": "gcr.io", "url": "https://gcr.io", "prefix": "gcr"},
    {"name": "registry.k8s.io", "url": "https://registry.k8s.io", "prefix": "k8s"},
    {"name": "public.ecr.aws", "url": "https://public.ecr.aws", "prefix": "ecr"},
    {"name": "mcr.microsoft.com", "url": "https://mcr.microsoft.com", "prefix": "mcr"},
)


def path_of(name: str) -> str:
    """The path of an upstream's table, as errors give it."""
    return f"upstream[{name!r}]"


def upstream_tables(given: object) -> tuple[dict[str, Any], list[str]]:
    """The table of every upstream by its path, built in and `given` by a file; and what is wrong there."""
    if not isinstance(given, list):
        return {}, ["upstream: a list of tables is needed; begin each with [[upstream]]"]
    built_in = {table["name"]: table for table in UPSTREAMS}
    tables: dict[str, Any] = {path_of(name): table for name, table in built_in.items()}
    lines = []
    seen = set()
    for index, table in enumerate(given):
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(name, str) or not is_name(name):
            tables[f"upstream[{index}]"] = table
            continue
        if name in seen:
            lines.append(f"upstream[{index}].name: {name} is there twice")
        seen.add(name)
        tables[path_of(name)] = _without_realm(built_in.get(name, {}), table) | table
    return tables, lines


def store_table(store: Any, environment: Mapping[str, str]) -> Any:
    """The `[store]` table, with the cache folder of the service or of the user where it names no path."""
    if not isinstance(store, dict) or "path" in store:
        return store
    # systemd gives a list of folders; a relative XDG_CACHE_HOME does not count (XDG base directories).
    granted = environment.get("CACHE_DIRECTORY", "").partition(":")[0]
    cache = environment.get("XDG_CACHE_HOME", "")
    home = environment.get("HOME", "")
    if granted:
        return {**store, "path": granted}
    if cache.startswith("/"):
        return {**store, "path": f"{cache}/mirrord"}
    return {**store, "path": f"{home}/.cache/mirrord"} if home else store


def state_folder(environment: Mapping[str, str], store: Path) -> Path:
    """Where the little is kept that is not content: systemd's folder for it, else with the content."""
    granted = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(granted) if granted else store


def proxy_variables(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By scheme, the variable that says which proxy leads there, and what it says; lowercase goes first."""
    variables = {}
    for scheme in ("http", "https"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            if scheme not in variables and (url := environment.get(name, "").strip()):
                variables[scheme] = (name, url)
    return variables


def _without_realm(built_in: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """At another URL the built-in token service has no claim to the account that is meant for that URL."""
    url = given.get("url", built_in.get("url"))
    is_elsewhere = not isinstance(url, str) or url.rstrip("/") != built_in.get("url")
    return {key: value for key, value in built_in.items() if key != "realm" or not is_elsewhere}
