"""The rules of the architecture (docs/architecture.md) that can be checked in the source."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mirrord").rglob("*.py"))

VAGUE_OPENING = re.compile(r"(What|Whoever|Who|That)\b|Whether .* is told")
VAGUE_WORDS = re.compile(r"\b([Tt](ells?|elling|old)|[Nn]obody|[Ww]hoever|[Ll](ets?|etting) go)\b")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in MODULES:
        yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


class LayerTests(SynchronousTestCase):
    def test_arrows_point_down(self) -> None:
        """No module imports what is beside or above it (the contracts are in pyproject.toml)."""
        lint = Path(sys.executable).with_name("lint-imports")
        run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield all docstrings, those of constants and attributes included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


class SourceTests(SynchronousTestCase):
    def test_modules_found(self) -> None:
        """The rules below are checked in every module."""
        self.assertGreater(len(MODULES), 20)

    def test_size(self) -> None:
        """No file is longer than 500 lines."""
        for path in MODULES:
            self.assertLessEqual(len(path.read_text("utf-8").splitlines()), 500, path)

    def test_class_names_are_unique(self) -> None:
        """No two public classes of the package have the same name."""
        paths: dict[str, list[Path]] = {}
        for path, tree in trees():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    paths.setdefault(node.name, []).append(path)
        repeated = {name: where for name, where in paths.items() if len(where) > 1}
        self.assertEqual(repeated, {})

    def test_docstring_openings(self) -> None:
        """Docstrings begin with what the object is or does, not with a relative clause."""
        for path, tree in trees():
            for docstring in docstrings(tree):
                self.assertIsNone(VAGUE_OPENING.match(docstring), f"{path}: {docstring}")

    def test_words(self) -> None:
        """Modules use the technical term instead of "tell", "nobody", "whoever" and "let go"."""
        for path in MODULES:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                self.assertIsNone(VAGUE_WORDS.search(line), f"{path}:{number}: {line}")

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

    def test_every_module_has_a_docstring(self) -> None:
        """Every module begins with a docstring."""
        for path, tree in trees():
            self.assertTrue(ast.get_docstring(tree), path)
