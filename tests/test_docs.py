"""The documentation agrees with the code."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.exit_status import EXIT_STATUSES
from mirrord.cli.main import COMMANDS
from mirrord.config import access, config, defaults, schema
from mirrord.observe.events import Event
from mirrord.observe.log_entry import FIELDS
from mirrord.observe.metrics import Metrics

ROOT = Path(__file__).parents[1]

SECTIONS: dict[str, type[attrs.AttrsInstance]] = {
    "Top level": config.Config,
    "`[store]`": config.StoreConfig,
    "`[[listen]]`": config.ListenConfig,
    "`[[listen.certificates]]`": config.CertificateConfig,
    "`[[upstream]]`": config.UpstreamConfig,
    "`[[upstream.account]]`": config.AccountConfig,
    "`[freshness]`": config.FreshnessConfig,
    "`[gc]`": config.GCConfig,
    "`[admin]`": config.AdminConfig,
    "`[log]`": config.LogConfig,
    "`[hosted]`": config.HostedConfig,
    "`[[hosted.keep]]`": config.RetentionConfig,
    "`[access]`": access.AccessConfig,
    "`[[access.rules]]`": access.RuleConfig,
}

# A default from the environment, and a key that is required in a file but has a default in the class.
SPECIAL = {
    ("`[store]`", "`path`"): "*see below*",
    ("`[[upstream.account]]`", "`password_file`"): "*required*",
}


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def rows(text: str, header: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables with this header."""
    lines = iter(text.splitlines())
    for line in lines:
        if line == header:
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                yield [cell.strip() for cell in row.strip("|").split("|")]


def sections(text: str) -> dict[str, str]:
    titles = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(titles[1::2], titles[2::2], strict=True))


def default_of(field: "attrs.Attribute[Any]") -> str:
    if field.default is attrs.NOTHING:
        return "*required*"
    return "none" if field.default is None else f"`{schema.write_value(field.default, field.type)}`"


def keys(section: str, cls: type[attrs.AttrsInstance]) -> dict[str, str]:
    return {
        f"`{field.name}`": SPECIAL.get((section, f"`{field.name}`"), default_of(field))
        for field in attrs.fields(cls)
        if schema.NOT_A_KEY not in field.metadata and not is_table(field)
    }


def is_table(field: "attrs.Attribute[Any]") -> bool:
    kind: Any = field.type
    return any(attrs.has(each) for each in (kind, *get_args(kind)) if isinstance(each, type))


class ConfigurationTests(SynchronousTestCase):
    def test_every_key_with_its_default(self) -> None:
        """configuration.md lists exactly the existing keys, with their defaults."""
        found = sections(read("docs/configuration.md"))
        for section, cls in SECTIONS.items():
            documented = {row[0]: row[1] for row in rows(found[section], "| key | default | meaning |")}
            self.assertEqual(documented, keys(section, cls), section)
        self.assertEqual({title for title in found if "[" in title}, set(SECTIONS) - {"Top level"})

    def test_built_in_upstreams(self) -> None:
        """configuration.md lists exactly the built-in upstreams."""
        documented = list(rows(read("docs/configuration.md"), "| name | prefix | url | realm |"))
        built_in = [
            [f"`{table[key]}`" if key in table else "" for key in ("name", "prefix", "url", "realm")]
            for table in defaults.UPSTREAMS
        ]
        self.assertEqual(documented, built_in)

    def test_example(self) -> None:
        """The example configuration is valid, as it is and with all commented settings enabled."""
        text = read("systemd/mirrord.toml")
        environment = {"HOME": "/home/me"}
        config.parse_config(text, environment=environment)
        whole = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
        self.assertIn("account", tomllib.loads(whole)["upstream"][0])
        with self.assertRaises(config.ConfigError) as caught:
            config.parse_config(whole, environment=environment)
        self.assertEqual(
            caught.exception.lines,
            ("upstream['docker.io'].account[0].password_file: systemd has passed no such credential",),
        )


class MetricsTests(SynchronousTestCase):
    def test_every_metric(self) -> None:
        """operations.md lists exactly the existing metrics, with type, labels and help."""
        exposed = []
        for family in Metrics(["docker.io"]).registry.collect():
            suffix = {"counter": "_total", "histogram": "_count"}.get(family.type, "")
            (labels, *_) = [
                list(sample.labels) for sample in family.samples if sample.name == family.name + suffix
            ]
            name = f"`{family.name}{suffix.replace('_count', '')}`"
            exposed.append([name, family.type, ", ".join(map("`{}`".format, labels)), family.documentation])
        documented = list(rows(read("docs/operations.md"), "| name | type | labels | meaning |"))
        self.assertEqual(documented, exposed)


class CommandTests(SynchronousTestCase):
    def test_every_command(self) -> None:
        """operations.md lists exactly the commands of `mirrord --help`, with their summaries."""
        commands = [
            [f"`{name}`", summary] for chapter in COMMANDS.values() for name, summary in chapter.items()
        ]
        self.assertEqual(list(rows(read("docs/operations.md"), "| command | does |")), commands)

    def test_every_status(self) -> None:
        """operations.md lists exactly the exit statuses of the commands."""
        documented = list(rows(read("docs/operations.md"), "| status | meaning |"))
        self.assertEqual(documented, [[f"`{status}`", meaning] for status, meaning in EXIT_STATUSES.items()])


class LogTests(SynchronousTestCase):
    def test_every_field(self) -> None:
        """operations.md lists exactly the fields of log entries, by their names in JSON and the journal."""
        documented = [row[:2] for row in rows(read("docs/operations.md"), "| JSON | journal | meaning |")]
        self.assertEqual(documented, [[f"`{name}`", f"`{field}`"] for name, field in FIELDS.items()])

    def test_every_event(self) -> None:
        """operations.md lists exactly the events, with their MESSAGE_IDs; its commands use only these."""
        text = read("docs/operations.md")
        documented = [row[:2] for row in rows(text, "| event | MESSAGE_ID | meaning |")]
        self.assertEqual(documented, [[f"`{event.word}`", f"`{event.value}`"] for event in Event])
        for named in re.findall(r"MESSAGE_ID=(\w+)", text):
            self.assertIn(named, list(Event))
        for named in re.findall(r"MIRRORD_[A-Z]+", text):
            self.assertIn(named, FIELDS.values())


class ArchitectureTests(SynchronousTestCase):
    def test_every_folder(self) -> None:
        """architecture.md lists every folder and top-level module of the package."""
        text = read("docs/architecture.md")
        package = ROOT / "mirrord"
        for path in package.iterdir():
            if (path / "__init__.py").exists():
                self.assertIn(f"\n  {path.name}/ ", text)
            elif path.suffix == ".py" and path.stem != "__init__":
                self.assertRegex(text, rf"\b{path.name}\b")
        for folder in re.findall(r"^  (\w+)/ ", text, flags=re.MULTILINE):
            self.assertTrue((package / folder).is_dir(), folder)

    def test_every_file(self) -> None:
        """Every module that architecture.md names exists."""
        for name in re.findall(r"`([\w/]+\.py)`", read("docs/architecture.md")):
            self.assertTrue(list((ROOT / "mirrord").rglob(name)) or (ROOT / name).is_file(), name)


class LinkTests(SynchronousTestCase):
    def test_links(self) -> None:
        """Every relative link in the documentation points to an existing file."""
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
            for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
                self.assertTrue((page.parent / target).exists(), f"{page.name}: {target}")

    def test_anchors(self) -> None:
        """Every link to a section of a page names an existing heading."""
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
            for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8")):
                text = (page.parent / target if target else page).read_text("utf-8")
                titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                self.assertIn(anchor, anchors, page.name)
