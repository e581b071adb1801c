"""The federated core above the algorithms: the round loop, what it asks of a backend, and checkpoints."""
