"""The audit: compares the logs of the topics with the database, and repairs what is missing.

KafkaSource may drop a record: where there is no dead-letter sink or the sink fails, and where the key has a NUL or a
header has no value. A stage may die between its commit and what it publishes. Only the log shows either fault.
"""
