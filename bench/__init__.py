"""Side-by-side measurements; never timed assertions."""
