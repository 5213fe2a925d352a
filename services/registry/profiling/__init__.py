"""What a dataset file holds: gate, kinds and statistics, found out in a process of its own.

`profile` holds the values, `examiner` is the service's side; everything else runs in the child and
is the only door to polars.
"""
