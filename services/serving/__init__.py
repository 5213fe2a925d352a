"""Answers predictions from its own disk.

Hears: deployment.desired, from its own position on every partition, without a consumer group.
Says: predictions.logged, ground_truth.observed, serving.applied, serving.refused,
serving.measured, serving.fell_back, replica.announced, all of it through its spool.
Owns: what this replica serves now. It has no database: desired states, artifacts and what is not
yet acknowledged by the broker lie on its own disk, so that it starts and answers while everything
else is down.
"""

from typing import Final

VERSION: Final = "0.1.0"
"""Told to clients of protocols that ask a server for its version."""
