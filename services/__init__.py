"""Six independent services; none imports another."""
