"""Real Kafka and PostgreSQL from package registries, without installing anything."""
