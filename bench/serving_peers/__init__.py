"""The servers beside which ours is measured; each runs in a virtual environment of its own."""
