import pandas as pd

from mfed_ray.report.privacy import privacy_spent


def test_the_most_that_a_task_has_spent_is_told_by_variant() -> None:
    rows = [
        (variant, task, number, metric, value)
        for variant, task, number, epsilon, bound in (
            ("fedavg", "saliency", 1, 0.5, 2.0),
            ("fedavg", "saliency", 2, 0.75, 3.0),
            ("fedavg", "human_parts", 2, 1.2345, 2.5),
            ("fedprox", "saliency", 2, 4.0, 4.0),
        )
        for metric, value in (("epsilon", epsilon), ("epsilon_bound", bound), ("delta", 1e-5), ("loss", 99.0))
    ]
    metrics = pd.DataFrame(rows, columns=["variant", "task", "round", "metric", "value"])
    assert privacy_spent(metrics) == (
        " Differential privacy of a client, the most over tasks: "
        "fedavg epsilon 1.23 (3 if it is known who took part) at delta 1e-05 and "
        "fedprox epsilon 4 (4 if it is known who took part) at delta 1e-05."
    )
    assert privacy_spent(metrics[metrics["metric"] == "loss"]) == ""
