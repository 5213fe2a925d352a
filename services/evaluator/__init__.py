"""evaluator: judges candidates on held-out rows.

Hears: registered candidates, and who the champion is.
Says: one verdict per candidate, champion and policy, with every figure and its evidence.
Owns: verdicts, and what each candidate became.
"""
