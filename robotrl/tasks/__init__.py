"""Tasks: one Markov decision process a file: observation, action, reward, termination, truncation."""
