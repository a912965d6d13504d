"""The rules of the house (docs/architecture.md) that can be read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mirrord").rglob("*.py"))


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in MODULES:
        yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


class LayerTests(SynchronousTestCase):
    def test_arrows_point_down(self) -> None:
        """No module imports what is beside or above it (the contracts are in pyproject.toml)."""
        lint = Path(sys.executable).with_name("lint-imports")
        run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)


class SourceTests(SynchronousTestCase):
    def test_there_is_source(self) -> None:
        """The rules below are asked of every module."""
        self.assertGreater(len(MODULES), 20)

    def test_size(self) -> None:
        """No file is longer than 300 lines."""
        for path in MODULES:
            self.assertLessEqual(len(path.read_text("utf-8").splitlines()), 300, path)

    def test_imports_are_at_the_top(self) -> None:
        """Nothing is imported inside a function or under a condition, TYPE_CHECKING for one."""
        for path, tree in trees():
            at_the_top = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self.assertIn(node, at_the_top, f"{path}:{node.lineno}")

    def test_packages_are_bare(self) -> None:
        """An `__init__.py` holds a docstring and nothing else."""
        for path, tree in trees():
            if path.name == "__init__.py":
                self.assertEqual(len(tree.body), 1, path)
                self.assertTrue(ast.get_docstring(tree), path)

    def test_every_module_says_what_it_is(self) -> None:
        """Every module begins with a docstring."""
        for path, tree in trees():
            self.assertTrue(ast.get_docstring(tree), path)
