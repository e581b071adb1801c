import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfed_ray.errors import ConfigError
from mfed_ray.experiment import load_experiment
from mfed_ray.experiment.loading import load_tree, merge, together
from mfed_ray.seeds import generator

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


def test_overrides_lie_over_the_file(base: Path) -> None:
    path = write(base.parent / "run.yaml", "base: base.yaml\nrounds: 4\n")
    tree = load_tree(path, ["rounds=2", "local.epochs=2", "model.encoder=resnet18"])
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
    with pytest.raises(ConfigError, match=r"^clients\.0\.tasks\.2: the list has 1 entries, 0 to 0$"):
        load_tree(base, ["clients.0.tasks.2=saliency"])


def test_a_number_names_an_entry_only_as_it_is_counted(base: Path) -> None:
    """Else ``0`` and ``00`` would be two keys for one entry."""
    for index in ("00", "²", "-1"):
        assert load_tree(base, [f"clients.{index}.count=3"])["clients"] == {index: {"count": 3}}


ORDERS: list[tuple[list[str], dict[str, Any]]] = [
    (
        ["algorithm.proximal_weight=0.5", "algorithm.name=fedprox"],
        {"algorithm": {"name": "fedprox", "proximal_weight": 0.5}},
    ),
    (["algorithm={name: fedavg}", "algorithm.scope=all"], {"algorithm": {"name": "fedavg", "scope": "all"}}),
    (
        ["algorithm.server.name=adam", "algorithm.server.beta1=0.5", "algorithm={name: fedavg}"],
        {"algorithm": {"name": "fedavg", "server": {"name": "adam", "beta1": 0.5}}},
    ),
    (
        ["data.scenes.root=b", "data.scenes.format=coco"],
        {"data": {"scenes": {"format": "coco", "root": "b"}}},
    ),
    (
        ["clients=[{tasks: [saliency], data: scenes}, {data: scenes}]", "clients.0.count=3", "clients.1.tasks=[a]"],
        {"clients": [{"tasks": ["saliency"], "data": "scenes", "count": 3}, {"tasks": ["a"], "data": "scenes"}]},
    ),
    (
        ["clients={0: {count: 3}}", "clients.0.count=3", "clients.0.tasks.0=human_parts", "local.epochs=2"],
        {
            "clients": [{"tasks": ["human_parts"], "data": "scenes", "count": 3}],
            "local": {"epochs": 2, "learning_rate": 1e-3},
        },
    ),
    (["rounds=3", "rounds=3", "local={}", "clients=[]", "clients=[]"], {"rounds": 3, "clients": []}),
]


@pytest.mark.parametrize(("overrides", "sections"), ORDERS, ids=lambda value: " ".join(value))
def test_the_order_of_overrides_does_not_matter(base: Path, overrides: list[str], sections: dict[str, Any]) -> None:
    expected = {**load_tree(base), **sections}
    for order in permutations(overrides):
        assert load_tree(base, order) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rounds=1", "rounds=2"], "rounds: set to 1 and to 2; allowed: one of them"),
        (["rounds=1", "rounds=true"], "rounds: set to 1 and to True; allowed: one of them"),
        (["rounds=2", "rounds=2.0"], "rounds: set to 2 and to 2.0; allowed: one of them"),
        (["a=1", "a.b=2"], "a: set to 1 and to {'b': 2}; allowed: one of them"),
        (["a.b=1", "a.b.c.d=2"], "a.b: set to 1 and to {'c': {'d': 2}}; allowed: one of them"),
        (["a=null", "a={}"], "a: set to None and to {}; allowed: one of them"),
        (["a=[1]", "a={}", "a.0=1"], "a: set to [1] and to {}; allowed: one of them"),
        (["a=[1, 2]", "a=[1]"], "a: set to [1, 2] and to [1]; allowed: one of them"),
        (["a=[1, 2]", "a.1=3"], "a.1: set to 2 and to 3; allowed: one of them"),
        (["a=[{b: 1}]", "a=[{c: 1}]"], "a: set to [{'b': 1}] and to [{'c': 1}]; allowed: one of them"),
        (["a={0: 1}", "a.0=2"], "a.0: set to 1 and to 2; allowed: one of them"),
        (
            ["algorithm={name: fedavg}", "algorithm.name=fedprox"],
            "algorithm.name: set to 'fedavg' and to 'fedprox'; allowed: one of them",
        ),
        (["clients=[{}]", "clients.1.count=2"], "clients.1: the list has 1 entries, 0 to 0"),
        (["clients=[]", "clients.0.count=2"], "clients.0: the list has no entries"),
    ],
)
def test_overrides_that_contradict_each_other_are_refused(base: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_tree(base, overrides)
    for order in permutations(overrides):
        with pytest.raises(ConfigError, match=f"^{re.escape(message.partition(':')[0])}: "):
            load_tree(base, order)


def test_what_is_put_together_is_left_as_it_was() -> None:
    parts: list[Any] = [{"a": [{"b": 1}]}, {"a": {"0": {"c": 2}}}]
    assert together(parts) == {"a": [{"b": 1, "c": 2}]}
    assert parts == [{"a": [{"b": 1}]}, {"a": {"0": {"c": 2}}}]


@pytest.mark.parametrize(
    ("file", "override", "expected"),
    [
        ("algorithm: {proximal_weight: 0.5}", "algorithm.name=fedprox", {"name": "fedprox", "proximal_weight": 0.5}),
        ("algorithm: {name: [a], other: [b]}", "algorithm.name=[c]", {"name": ["c"], "other": ["b"]}),
    ],
)
def test_a_mapping_without_a_kind_is_of_no_other_kind(tmp_path: Path, file: str, override: str, expected: Any) -> None:
    assert load_tree(write(tmp_path / "run.yaml", file), [override]) == {"algorithm": expected}


COMMAND = [
    "name=other",
    "rounds=2",
    "algorithm.name=fedprox",
    "algorithm.proximal_weight=0.5",
    "algorithm.server.name=adam",
    "algorithm.server.learning_rate=0.1",
    "data.scenes.format=generated",
    "data.scenes.root=drawn",
    "data.scenes.images=12",
    "data.more={format: coco, root: photos}",
    "clients=[{tasks: [saliency], data: scenes}, {tasks: [edge_detection], data: scenes}]",
    "clients.0.count=3",
    "clients.1.data=scenes",
    "clients.1.tasks.0=edge_detection",
    "local.epochs=4",
    "local={learning_rate: 0.2}",
]


def test_any_order_of_a_command_line_is_the_same_experiment(tiny_tree: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.yaml", yaml.safe_dump(tiny_tree))
    first, rng = load_experiment(path, COMMAND).resolved(), generator(0, "orders")
    for _ in range(36):
        assert load_experiment(path, [COMMAND[index] for index in rng.permutation(len(COMMAND))]).resolved() == first
    algorithm, data, clients = first["algorithm"], first["data"], first["clients"]
    assert (first["name"], first["rounds"], first["seed"]) == ("other", 2, 0)
    assert (algorithm["name"], algorithm["proximal_weight"]) == ("fedprox", 0.5)
    assert (algorithm["server"]["name"], algorithm["server"]["learning_rate"]) == ("adam", 0.1)
    assert (data["scenes"]["format"], data["scenes"]["root"], data["scenes"]["images"]) == ("generated", "drawn", 12)
    assert data["more"] == {"format": "coco", "root": "photos"}
    assert [(one["tasks"], one["count"]) for one in clients] == [(["saliency"], 3), (["edge_detection"], 1)]
    assert (first["local"]["epochs"], first["local"]["learning_rate"], first["local"]["batch_size"]) == (4, 0.2, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["algorithm.proximal_weight=0.5", "algorithm.name=fedavg"],
            r"^algorithm\.proximal_weight: unknown key.* \(allowed: name, ",
        ),
        (
            ["algorithm.server.learning_rate=0.5", "algorithm.server.name=average", "algorithm.name=fedavg"],
            r"^algorithm\.server: average has no learning_rate; leave it out",
        ),
        (
            ["data.scenes.images=9", "data.scenes.format=coco", "data.scenes.root=b"],
            r"^data\.scenes\.images: unknown key \(allowed: format, root\)$",
        ),
        *(
            ([f"{section}.nothing=1"], rf"^{section}\.nothing: unknown key.* \(allowed: ")
            for section in ("partition", "images", "model", "augmentation", "local", "evaluation", "runtime")
        ),
        (["clients.0.nothing=1", "clients.0.count=1"], r"^clients\.0\.nothing: unknown key \(allowed: tasks, "),
        (["local.loss_weights.nothing=1"], r"^local\.loss_weights: 'nothing' is not one of "),
    ],
)
def test_a_key_that_nothing_takes_is_refused_in_any_order(
    tiny_tree: dict[str, Any], tmp_path: Path, overrides: list[str], message: str
) -> None:
    path = write(tmp_path / "tiny.yaml", yaml.safe_dump(tiny_tree))
    for order in permutations(overrides):
        with pytest.raises(ConfigError, match=message):
            load_experiment(path, order)
