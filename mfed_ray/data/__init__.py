"""Datasets: readers, generator, transforms, partition."""
