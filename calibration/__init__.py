"""Offline tools; each writes one dated file and can be run again."""
