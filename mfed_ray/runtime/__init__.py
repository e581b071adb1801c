"""Backends that run clients: in this process, or in Ray actors."""
