"""The whole system on one machine: Kafka, PostgreSQL and the six services under a supervisor."""
