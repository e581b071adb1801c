"""Algorithms by name, registered and out of the package, and back."""

from pathlib import Path

import pytest

from mfed_ray.algorithms import ALGORITHMS, Algorithm, algorithm_name, find_algorithm
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.errors import ConfigError

OWN = """
from mfed_ray.algorithms import Algorithm

class Own(Algorithm):
    init = instruct = fit = aggregate = lambda self, *arguments: None

number = 5
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package out of the tree with a module of one algorithm."""
    (tmp_path / "registry_package").mkdir(exist_ok=True)
    (tmp_path / "registry_package" / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "registry_package.own"


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_registered_names_both_ways(name: str) -> None:
    kind = find_algorithm(name)
    assert issubclass(kind, Algorithm)
    assert algorithm_name(kind.model_validate({})) == name


def test_a_class_out_of_the_package_both_ways(own_module: str) -> None:
    kind = find_algorithm(f"{own_module}:Own")
    assert (kind.__module__, kind.__name__) == (own_module, "Own")
    assert algorithm_name(kind.model_validate({})) == f"{own_module}:Own"
    assert find_algorithm(algorithm_name(kind.model_validate({}))) is kind


def test_a_registered_class_goes_by_its_short_name_however_it_was_found() -> None:
    kind = find_algorithm("mfed_ray.algorithms.fedavg:FedAvg")
    assert kind is FedAvg
    assert algorithm_name(kind.model_validate({})) == "fedavg"


def test_unknown_name_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^algorithm\.name: 'fedavgg' is not one of .*; did you mean 'fedavg'\?$"):
        find_algorithm("fedavgg")


def test_unknown_name_lists_what_is_allowed() -> None:
    with pytest.raises(ConfigError) as refused:
        find_algorithm("zzz")
    allowed = ", ".join(ALGORITHMS)
    assert str(refused.value) == f"algorithm.name: 'zzz' is not one of {allowed}, package.module:Class"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_package.module:Own", "No module named 'no_such_package'"),
        ("registry_package.nothing:Own", "No module named 'registry_package.nothing'"),
        ("registry_package.own:Missing", "module 'registry_package.own' has no attribute 'Missing'"),
        ("registry_package.own:", "has no attribute ''"),
        (":Own", "Empty module name"),
    ],
)
@pytest.mark.usefixtures("own_module")
def test_what_cannot_be_imported(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^algorithm\.name: '{name}' cannot be imported \(.*{reason}.*\)$"):
        find_algorithm(name)


@pytest.mark.parametrize("kind", ["number", "__name__"])
def test_what_is_no_algorithm(own_module: str, kind: str) -> None:
    message = rf"^algorithm\.name: '{own_module}:{kind}' is no subclass of mfed_ray\.algorithms\.Algorithm$"
    with pytest.raises(ConfigError, match=message):
        find_algorithm(f"{own_module}:{kind}")


def test_another_class_is_no_algorithm() -> None:
    with pytest.raises(ConfigError, match=r"'mfed_ray\.messages:State' is no subclass of"):
        find_algorithm("mfed_ray.messages:State")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "cannot be imported \\(SyntaxError: "),
        ("undefined", "cannot be imported \\(NameError: name 'undefined' is not defined\\)$"),
        (
            "from mfed_ray.algorithms import Algorithm\n\nclass Own(Algorithm):\n    pass\n",
            "lacks aggregate, fit, init, instruct; an algorithm has all four functions$",
        ),
        (
            "from mfed_ray.algorithms.local import Local\n\nclass Own(Local):\n    name: str = 'mine'\n",
            "has a field called name, which is the algorithm's own; rename it$",
        ),
    ],
)
def test_a_module_of_the_users_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    module = f"broken_{len(text)}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"^algorithm\.name: '{module}:Own' {message}"):
        find_algorithm(f"{module}:Own")
