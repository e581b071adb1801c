from mfed_ray.results.order import natural


def test_numbers_sort_by_value() -> None:
    expected = [
        "fedavg",
        "local",
        "mfed10",
        "mfed tau=-1.0 weight=0.5",
        "mfed tau=-0.5",
        "mfed tau=1e-05",
        "mfed tau=0.01",
        "mfed tau=9",
        "mfed tau=10",
    ]
    assert sorted(sorted(expected), key=natural) == expected
    assert sorted(["mfed tau=auto", "mfed tau=0.5"], key=natural) == ["mfed tau=0.5", "mfed tau=auto"]


def test_a_hyphen_is_a_sign_after_an_equals_sign_only() -> None:
    assert sorted(["run-10", "run-9"], key=natural) == ["run-9", "run-10"]
    assert natural("tau=-1.0") == ("tau=", -1.0, "")
    assert natural("7") == ("", 7.0, "")
