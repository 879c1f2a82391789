"""Agents: one page per algorithm, in the order and with the symbols of its paper."""
