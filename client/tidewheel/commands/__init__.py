"""The verbs of the command; what a verb needs is imported when it runs."""
