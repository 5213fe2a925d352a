"""Programs of other people's detectors; each runs in an environment of its own."""
