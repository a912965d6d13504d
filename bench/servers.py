"""The servers that are compared: mirrord, Debian's docker-registry and nginx.

With a `pair` of certificate and key a server uses TLS; mirrord on a port of its own beside the plain one.
"""

import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import attrs

from mirrord.config.config import CertificateConfig
from tests.integration.daemon import Daemon, Settings, free_port

_REGISTRY = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
{proxy}
"""

_NGINX = """
{user}
daemon off;
worker_processes auto;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/temp;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache keys_zone=blobs:10m max_size=4g;
  server {{
    listen 127.0.0.1:{port} {ssl};
    location / {{
      proxy_pass {upstream};
      proxy_cache blobs;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
      proxy_ignore_headers Cache-Control Expires Set-Cookie;
    }}
  }}
}}
"""


_SSL = "ssl; ssl_protocols TLSv1.3; ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key}"

_LISTEN = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
certificate = "{pair.certificate}"
key = "{pair.key}"
"""


@attrs.define(eq=False)
class Server:
    """A running server: its URL, and the session of its processes."""

    name: str
    url: str
    session: int
    stop: Callable[[], None]

    def cpu_seconds(self) -> float:
        """Return the user and system time of all its processes and threads."""
        ticks = 0
        for stat in self._stats():
            ticks += int(stat[11]) + int(stat[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss(self) -> int:
        """Return the PSS of all its processes in bytes."""
        total = 0
        for stat in self._stats():
            rollup = Path(f"/proc/{stat[-1]}/smaps_rollup").read_text()
            match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            total += int(match.group(1)) * 1024 if match else 0
        return total

    def _stats(self) -> list[list[str]]:
        """Return the fields of /proc/PID/stat after the name, and the pid, of each process of the session."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.session:
                    found.append([*fields, path.parent.name])
        return found


def start_mirrord(
    folder: Path,
    upstream: str,
    pair: CertificateConfig | None = None,
    *,
    more: str = "",
    checkout: Path | None = None,
) -> Server:
    """Start mirrord from this checkout or another; `more` is appended to its configuration.

    Another one uses the packages of its own `.venv`, if it has one, and otherwise those installed here.
    """
    port = free_port()
    secure = "" if pair is None else _LISTEN.format(port=port, pair=pair)
    environment = {} if checkout is None else {"PYTHONPATH": ":".join(_import_paths(checkout.absolute()))}
    daemon = Daemon(folder, Settings(upstream, tag_ttl="1h", more=secure + more), environment)
    daemon.start()
    url = daemon.url if pair is None else f"https://localhost:{port}"
    return Server("mirrord" if checkout is None else "baseline", url, daemon.pid, daemon.kill)


def knows_key(checkout: Path | None, key: str) -> bool:
    """Return whether a configuration of mirrord may have this key; an older checkout may reject it."""
    sources = (Path(__file__).parents[1] if checkout is None else checkout) / "mirrord"
    return any(key in path.read_text() for path in sources.rglob("*.py"))


def start_registry(folder: Path, upstream: str | None = None) -> Server:
    """Start Debian's docker-registry, as a mirror of `upstream` or as a registry of its own."""
    port = free_port()
    folder.mkdir(parents=True)
    proxy = "" if upstream is None else f"proxy: {{remoteurl: {upstream}}}"
    config = folder / "config.yml"
    config.write_text(_REGISTRY.format(folder=folder / "files", port=port, proxy=proxy))
    url = f"http://127.0.0.1:{port}"
    return _start("docker-registry", ["docker-registry", "serve", str(config)], folder, url)


def start_nginx(folder: Path, upstream: str, pair: CertificateConfig | None = None) -> Server | None:
    """Start Debian's nginx with proxy_cache; return None if it is not installed."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        return None
    port = free_port()
    folder.mkdir(parents=True)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    tls = "" if pair is None else _SSL.format(pair=pair)
    config.write_text(_NGINX.format(folder=folder, port=port, ssl=tls, upstream=upstream, user=user))
    command = [nginx, "-e", str(folder / "error.log"), "-c", str(config)]
    scheme = "http" if pair is None else "https"
    return _start("nginx", command, folder, f"{scheme}://localhost:{port}")


def _import_paths(checkout: Path) -> list[str]:
    return [str(path) for path in (checkout, *checkout.glob(".venv/lib/python3*/site-packages"))]


def _start(name: str, command: list[str], folder: Path, url: str) -> Server:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(f"{url}/v2/", timeout=1, context=context):
            return Server(name, url, process.pid, stop)
        time.sleep(0.05)
    stop()
    raise RuntimeError(f"{name} does not respond: {(folder / 'log').read_text()[-2000:]}")
