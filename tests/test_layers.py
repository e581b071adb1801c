"""A module imports only from rows above its own: data flows one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mfed_ray"

ROWS = [
    ["durable", "errors", "evaluation", "json_text", "locks", "messages", "section"],
    ["params", "seeds", "averages", "registry"],
    ["algorithms"],
    ["federation"],
    ["labels", "coco_categories", "annotations", "jit", "storage"],
    ["boundaries", "results"],
    ["recording"],
    ["data", "models", "metrics", "predictions", "local_training"],
    ["tasks"],
    ["loading"],
    ["loaded_model", "optimizers"],
    ["training"],
    ["experiment"],
    ["runtime", "environment"],
    ["execution"],
    ["driver"],
    ["sweep", "doctor", "predict"],
    ["progress", "sweep_progress", "pictures"],
    ["report"],
    ["cli"],
    ["__main__"],
]
"""Top to bottom; the table of docs/architecture.md."""

CONFINED = {
    "ray": {"runtime", "driver", "sweep", "doctor"},
    "pandas": {"results", "report"},
    "pyarrow": {"results", "storage"},
    "fsspec": {"storage"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "torchvision": {"models", "data"},
    "numba": {"jit"},
    "typer": {"cli"},
    "rich": {"progress", "sweep_progress"},
    "scipy": {"algorithms", "data", "metrics", "results"},
    "PIL": {"data", "predictions"},
    "pycocotools": {"data", "metrics", "predictions"},
    "msgspec": {"data"},
    "opacus": {"algorithms"},
}
"""Third-party packages and the only modules that may import them."""

ROW_OF = {module: index for index, row in enumerate(ROWS) for module in row}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_above(path: Path) -> None:
    own = module_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "mfed_ray" and len(parts) > 1 and parts[1] != own:
            assert ROW_OF[parts[1]] < ROW_OF[own], f"{own} imports {name}"
        if parts[0] in CONFINED:
            assert own in CONFINED[parts[0]], f"{own} imports {name}"


def test_every_module_has_a_row() -> None:
    assert {module_of(path) for path in FILES} == set(ROW_OF)


def test_no_circles_between_files() -> None:
    names = {str(path.relative_to(PACKAGE.parent).with_suffix("")).replace("/", "."): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: {n for n in imports(path) if n in names and n != name} for name, path in names.items()}
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
