"""What the services agree on: events, topics, delivery, access. It knows no service."""
