"""Federated algorithms: one file per paper, client half and server half side by side."""
