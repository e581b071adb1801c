"""Flower's simulation with two CPUs, its FedAvg and its own round loop."""

from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.overhead_arms.federation import (
    WORKERS,
    Clock,
    Size,
    Tensors,
    load,
    make_clients,
    make_model,
    train,
    workspace,
)


def client_app(size: Size) -> Any:
    """What each virtual node runs."""
    app = ClientApp()

    def fit(message: Message, context: Context) -> Message:
        model, client = workspace(size), make_clients(size)[context.node_config["partition-id"]]
        load(model, message.content["arrays"].to_torch_state_dict())
        loss = train(model, client)
        content = {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"loss": loss, "num-examples": client.examples}),
        }
        return Message(content=RecordDict(content), reply_to=message)

    app.train()(fit)
    return app


def federate(size: Size, rounds: int, clock: Clock) -> Tensors:
    """FedAvg; the server's evaluation, which gives nothing here, is where a round is seen to end."""
    server, final = ServerApp(), []

    def lap(number: int, _: ArrayRecord) -> None:
        if number:
            clock.lap()
        else:
            clock.start()

    def serve(grid: Grid, _: Context) -> None:
        initial = ArrayRecord(make_model(size).state_dict())
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=size.clients, min_available_nodes=size.clients)
        final.append(strategy.start(grid, initial, num_rounds=rounds, evaluate_fn=lap).arrays)

    server.main()(serve)
    backend = {
        "init_args": {"address": "local", "num_cpus": WORKERS},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    run_simulation(server, client_app(size), size.clients, backend_config=backend)
    values: Tensors = final[0].to_torch_state_dict()
    return values
