"""KafkaSource's delivery as one process, which reads the same KafkaSource manifests.

It follows the rules of knative-extensions/eventing-kafka-broker 1.21 to 1.23 between a topic and a sink; each module
says which of them it has. It must never be kinder than the real data plane. It differs in these points:

- There is no poll timer of 200 ms, and so no limit of `max.poll.records` x 5 events a second. The idle latency is
  lower (13 to 18 ms over two stages, against 0.55 to 0.77 s), and only the sinks limit the throughput. A poll takes the
  records that have arrived, up to --max-poll-records. So a header with a null value discards fewer other records than
  in a busy cluster.
- The client is librdkafka instead of the Java client. Group protocol, assignor and timeouts are the same, but
  prefetching is not: large producer batches starve partitions there, and not here.
- A structured CloudEvent may nest JSON about 900 levels deep, and not 999. UTF-8 that is longer than it must be makes
  it no CloudEvent; Jackson reads it.
- All attempts to send an event to one sink have the same span id. The real data plane makes one for each attempt.
- A null-valued header behind `traceparent`, `tracestate` and `baggage` drops a CloudEvent, too. The real data plane has
  found all that it looks for before it comes to such a header.
- There is no OIDC, and no TLS or SASL from Secrets. Settings of the Kafka client come from --kafka-config.
"""
