"""The story that `make demo` tells: live, on real data, with verdicts from the services alone."""
