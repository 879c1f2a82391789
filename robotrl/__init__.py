"""robotrl trains a robot on the robot: drivers, gate, bus, learner, and a twin that carries the same program."""
