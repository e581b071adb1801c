"""One file per task: decoder, loss, metric and target bound together."""
