"""KafkaSource's delivery as one process, which reads the same KafkaSource manifests.

It follows the rules of knative-extensions/eventing-kafka-broker 1.21 to 1.23 between a topic and a sink; each module
says which of them it has. It must never be kinder than the real data plane. It differs in these points:

- There is no poll timer of 200 ms, and so no limit of `max.poll.records` x 5 events a second. The idle latency is
  lower, and only the sinks limit the throughput. A poll takes the records that have arrived, up to
  --max-poll-records. So a header with a null value discards fewer other records than in a busy cluster.
- The client is librdkafka instead of the Java client. Group protocol, assignor and timeouts are the same, but
  prefetching is not: large producer batches starve partitions there, and not here.
- Every record with a NUL in its key is dropped. The real data plane drops it only where the key becomes an attribute,
  which does not happen for a valid CloudEvent.
- A record that has no value and is no CloudEvent is delivered without a body. What the real data plane does with it has
  not been measured.
- There is no OIDC, and no TLS or SASL from Secrets. Settings of the Kafka client come from --kafka-config.
"""
