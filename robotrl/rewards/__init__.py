"""Reward sources that are not part of a task: a person, a classifier."""
