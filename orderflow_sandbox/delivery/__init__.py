"""KafkaSource's delivery, as one process driven by the same KafkaSource manifests.

What knative-extensions/eventing-kafka-broker 1.21 to 1.23 does between a topic and a sink, rule by
rule; the modules say which rule they hold. It is meant never to be kinder than the real data plane.
Where it differs:

- No 200 ms poll timer and no ceiling of `max.poll.records` x 5 events a second: idle latency is
  lower, throughput is what the sinks give. A poll takes what has arrived by then, up to
  --max-poll-records, so a null-valued header takes fewer neighbours with it than in a busy cluster.
- librdkafka instead of the Java client: same group protocol, assignor and time-outs, but its own
  prefetching, so large producer batches do not starve partitions here as they do there.
- Every record with a NUL in its key is dropped. Read closely, the real one drops it only where the
  key becomes an attribute, which a well-formed CloudEvent's key does not.
- A record without value that is no CloudEvent is delivered as one without a body. The real one's
  handling of that case has not been measured.
- No OIDC, no TLS or SASL from Secrets: settings of the Kafka client come from --kafka-config.
"""
