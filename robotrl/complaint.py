"""What the code foresaw and a person can mend."""


class Complaint(Exception):
    """One line: what is wrong, where, and what to do. A command shows it without a traceback and ends with exit code 2."""
