"""Built-in upstreams and other defaults, as the tables that a file would contain; a file overrides them.

Some defaults depend on the environment: the folder of the store (folders.py), and proxies.
"""

from collections.abc import Mapping
from typing import Any

from mirrord.config.folders import store_folder
from mirrord.config.types import is_upstream_name
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


def upstream_path(name: str) -> str:
    """Return the path of an upstream's table in error messages."""
    return f"upstream[{name!r}]"


def upstream_tables(configured: object) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of all upstreams by path, those of a file over the built-in ones; and the errors."""
    if not isinstance(configured, list):
        return {}, ["upstream: must be a list of tables; begin each with [[upstream]]"]
    built_in = {table["name"]: table for table in UPSTREAMS}
    tables: dict[str, Any] = {upstream_path(name): table for name, table in built_in.items()}
    lines = []
    names = set()
    for index, table in enumerate(configured):
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(name, str) or not is_upstream_name(name):
            tables[f"upstream[{index}]"] = table
            continue
        if name in names:
            lines.append(f"upstream[{index}].name: {name} is configured twice")
        names.add(name)
        tables[upstream_path(name)] = _without_realm(built_in.get(name, {}), table) | table
    return tables, lines


def store_table(store: Any, environment: Mapping[str, str]) -> Any:
    """Return the `[store]` table; its default path is the cache folder of the service or of the user."""
    if not isinstance(store, dict) or "path" in store:
        return store
    folder = store_folder(environment)
    return store if folder is None else {**store, "path": str(folder)}


def hosted_table(document: Mapping[str, Any], environment: Mapping[str, str], *, is_store_given: bool) -> Any:
    """Return the `[hosted]` table, with a path in the state directory if no path is given, nor a store's."""
    hosted, store = document.get("hosted", {}), document.get("store", {})
    assigned = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    has_store = is_store_given or not isinstance(store, dict) or "path" in store
    if not isinstance(hosted, dict) or "path" in hosted or has_store or not assigned:
        return hosted
    return {**hosted, "path": f"{assigned}/hosted"}


def proxy_variables(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the name and value of the variable with the proxy of each scheme; lowercase takes precedence."""
    variables = {}
    for scheme in ("http", "https"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            if scheme not in variables and (url := environment.get(name, "").strip()):
                variables[scheme] = (name, url)
    return variables


def _without_realm(built_in: dict[str, Any], configured: dict[str, Any]) -> dict[str, Any]:
    """Drop the built-in realm at another URL: its token service must not receive the account for that URL."""
    url = configured.get("url", built_in.get("url"))
    is_elsewhere = not isinstance(url, str) or url.rstrip("/") != built_in.get("url")
    return {key: value for key, value in built_in.items() if key != "realm" or not is_elsewhere}
