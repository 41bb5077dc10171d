"""The audit: compares what the topics' logs hold with what the database knows, and makes good what is missing.

KafkaSource may drop a record (no dead-letter sink or one that fails, a NUL in the key, a null header), and a stage
may die between a commit and what it announces. Neither leaves a trace but in the log itself.
"""
