"""The promises of the project files: pins, what is never imported, how long a file may be, the README."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "absentia"
SOURCES = sorted(PACKAGE.rglob("*.py"))

RUN_WHAT_THEY_READ = {"pickle", "cloudpickle", "dill", "shelve", "torch.load", "torch.save"}
NEED_SPECIAL_BUILDS = {"torchvision", "torchaudio", "torchcodec", "timm", "open_clip"}
FORBIDDEN = RUN_WHAT_THEY_READ | NEED_SPECIAL_BUILDS
MOST_LINES = 400
LONG: dict[str, str] = {
    # "models/example.py": "why this idea does not come apart into two files",
}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]  # type: ignore[no-any-return]


def required() -> list[Requirement]:
    table = project()
    extras: dict[str, list[str]] = table["optional-dependencies"]  # type: ignore[assignment]
    core: list[str] = table["dependencies"]  # type: ignore[assignment]
    return [Requirement(line) for line in [*core, *(line for extra in extras.values() for line in extra)]]


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    found = {canonicalize_name(name): Version(version) for name, version in pairs}
    assert len(found) == len(lines), "a name is pinned twice"
    return found


def named(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported and every dotted name that is used, as it is spelled in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def forbidden(source: str) -> list[str]:
    names = set(named(ast.parse(source)))
    return sorted(bad for bad in FORBIDDEN if any(f"{name}.".startswith(f"{bad}.") for name in names))


@pytest.mark.parametrize("requirement", required(), ids=lambda requirement: str(requirement.name))
def test_pin_lies_in_the_range(requirement: Requirement) -> None:
    pin = pins()[canonicalize_name(requirement.name)]
    assert pin.local is None, "a local version such as +cpu binds everybody to one build"
    assert pin in requirement.specifier


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_source_imports_nothing_forbidden(path: Path) -> None:
    assert forbidden(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["pickle"]),
        ("from torchvision.io import read_image", ["torchvision"]),
        ("from torch import load", ["torch.load"]),
        ("import torch\ntorch.load('x')", ["torch.load"]),
        ("import torch\ntorch.loader\n'pickle'", []),
    ],
)
def test_forbidden_is_seen_in_every_spelling(source: str, found: list[str]) -> None:
    assert forbidden(source) == found


def test_long_files_have_a_reason() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in SOURCES}
    long = {name for name, lines in lengths.items() if lines > MOST_LINES}
    assert long == set(LONG), "list a file of more than 400 lines in LONG with its reason, and no other"
    assert all(LONG.values())


def test_readme_promises_two_commands_that_exist() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_readme_python_compiles() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_package_carries_its_type_marker() -> None:
    assert (PACKAGE / "py.typed").exists()
