"""Procedural scenes with the ground truth of every task; writing them to disk is not done here."""
