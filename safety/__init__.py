"""Pure judgement: (now, inputs, state) in, verdict out. Standard library only."""
