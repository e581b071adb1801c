import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfed_ray.errors import ConfigError
from mfed_ray.experiment.loading import load_tree, merge

BASE = """\
rounds: 8
algorithm: {name: mfed, decoder_proximal_weight: 0.01, correlation_threshold: -1.0}
data:
  scenes: {format: generated, root: a, images: 480}
clients:
  - {tasks: [saliency], data: scenes}
local: {epochs: 6, learning_rate: 1e-3}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2e+3", -2000.0),
        ("+1.5e-3", 1.5e-3),
        ("1.e2", 100.0),
        (".5e1", 5.0),
        ("0.25", 0.25),
        ("1.0e-4", 1e-4),
        ("-.inf", float("-inf")),
    ],
)
def test_scientific_notation_is_a_float(base: Path, text: str, number: float) -> None:
    """YAML 1.2; PyYAML alone reads ``1e-4`` as a text."""
    value = load_tree(base, [f"local.learning_rate={text}"])["local"]["learning_rate"]
    assert isinstance(value, float)
    assert value == number
    assert load_tree(base)["local"]["learning_rate"] == 1e-3


def test_other_yaml_is_left_as_it_is(base: Path) -> None:
    texts = ["e4", "1e", "1e-4x", "7", "true", "null", "[1, two]", "{a: {b: 1}}", "'1e-4'", "", "a=b", "0x10"]
    expected: list[Any] = ["e4", "1e", "1e-4x", 7, True, None, [1, "two"], {"a": {"b": 1}}, "1e-4", None, "a=b", 16]
    assert [load_tree(base, [f"value={text}"])["value"] for text in texts] == expected
    assert yaml.safe_load("1e-4") == "1e-4"  # PyYAML's own loader is not changed for others


def test_a_file_lies_over_its_base(base: Path) -> None:
    folder = base.parent / "sub"
    folder.mkdir()
    path = write(
        folder / "run.yaml",
        "base: ../base.yaml\nseed: 4\nlocal: {epochs: 1}\nclients:\n  - {tasks: [human_parts], data: scenes}\n",
    )
    assert load_tree(path) == {
        **load_tree(base),
        "seed": 4,
        "local": {"epochs": 1, "learning_rate": 1e-3},  # mappings merge
        "clients": [{"tasks": ["human_parts"], "data": "scenes"}],  # lists replace
    }


def test_overrides_lie_over_the_file_the_last_one_on_top(base: Path) -> None:
    path = write(base.parent / "run.yaml", "base: base.yaml\nrounds: 4\n")
    tree = load_tree(path, ["rounds=3", "local.epochs=2", "model.encoder=resnet18", "rounds=2"])
    assert tree["rounds"] == 2
    assert tree["local"] == {"epochs": 2, "learning_rate": 1e-3}
    assert tree["model"] == {"encoder": "resnet18"}
    assert load_tree(path)["rounds"] == 4


@pytest.mark.parametrize(
    ("override", "section", "expected"),
    [
        ("algorithm={name: fedavg}", "algorithm", {"name": "fedavg"}),
        ("algorithm.name=fedavg", "algorithm", {"name": "fedavg"}),
        (
            "algorithm.correlation_threshold=0.5",
            "algorithm",
            {"name": "mfed", "decoder_proximal_weight": 0.01, "correlation_threshold": 0.5},
        ),
        (
            "algorithm={name: mfed, decoder_proximal_weight: 0}",
            "algorithm",
            {"name": "mfed", "decoder_proximal_weight": 0, "correlation_threshold": -1.0},
        ),
        (
            "data.scenes={format: pascal_context, root: b}",
            "data",
            {"scenes": {"format": "pascal_context", "root": "b"}},
        ),
        ("data.scenes.root=b", "data", {"scenes": {"format": "generated", "root": "b", "images": 480}}),
        ("local=fast", "local", "fast"),
    ],
)
def test_another_kind_replaces_and_the_same_kind_merges(base: Path, override: str, section: str, expected: Any) -> None:
    assert load_tree(base, [override])[section] == expected


def test_merge_changes_neither_tree() -> None:
    under, over = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "e": None}
    assert merge(under, over) == {"a": {"b": 3, "c": 2}, "d": [1], "e": None}
    assert (under, over) == ({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "e": None})


@pytest.mark.parametrize("override", ["rounds", "", "=3", "local..epochs=3", ".rounds=3", "local.=3"])
def test_an_override_is_a_dotted_key_and_a_value(base: Path, override: str) -> None:
    message = f"override {override!r}: expected KEY=VALUE, with dots between nested keys"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_tree(base, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clients=[{", r"^override 'clients=\[\{': not valid YAML: while parsing a flow node .* line 1, column 3: "),
        ("seed=!!python/object:os.system x", r"override 'seed=.*not valid YAML: could not determine a constructor"),
    ],
)
def test_an_override_with_broken_yaml(base: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tree(base, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rounds: 3\n  seed: 1\n", "run.yaml: not valid YAML: mapping values are not allowed here"),
        (b"- rounds\n", "run.yaml: expected a mapping at the top, found list"),
        (b"", "run.yaml: expected a mapping at the top, found NoneType"),
        (b"name: \xff\n", "run.yaml: cannot be read ('utf-8' codec can't decode"),
        (b"base: nowhere.yaml\n", "nowhere.yaml: cannot be read ("),
        (b"base: twice.yaml\n", "twice.yaml: base: a base file cannot have a base of its own"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(base: Path, content: bytes, message: str) -> None:
    write(base.parent / "twice.yaml", "base: base.yaml\n")
    path = base.parent / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_tree(path)
    assert str(caught.value).startswith(str(base.parent))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        message = rf"^{re.escape(str(path))}: cannot be read \(.*\); expected a YAML file$"
        with pytest.raises(ConfigError, match=message):
            load_tree(path)


def test_a_number_in_an_override_names_an_entry_of_a_list(base: Path) -> None:
    clients = load_tree(base, ["clients.0.count=3", "clients.0.tasks.0=human_parts"])["clients"]
    assert clients == [{"tasks": ["human_parts"], "data": "scenes", "count": 3}]
    with pytest.raises(ConfigError, match=r"^clients\.1: the list has 1 entries, 0 to 0$"):
        load_tree(base, ["clients.1.count=3"])
