"""Nodes: one process each; the only place where drivers, safety, tasks, agents and the bus meet."""
