"""The twin: replaces the far end of each wire, never the code that speaks to it."""
