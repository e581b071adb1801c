"""Multi-task federated learning with an encoder-decoder structure, simulated on Ray."""
