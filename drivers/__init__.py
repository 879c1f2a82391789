"""Devices and wire codecs. They speak to wires, never to the bus."""
