"""From the bytes of a dataset to a packed candidate; runs only in a confined child.

The service never imports this package: it takes scikit-learn, optuna and polars with it. The order
of a run is in `run`: read, split, search, refit, score, pack.
"""
