// Hands the orders of an outbox over as CloudEvents in Kafka: node kafka_orders.mjs FOLDER
// KAFKA_BOOTSTRAP is host:port of a broker, PATIENCE the seconds after which it gives up.
import { Kafka as Wire } from "cloudevents";
import { Kafka, Partitioners, logLevel } from "kafkajs";
import { move, orders } from "./outbox.mjs";

const outbox = process.argv[2];
const patience = 1000 * Number(process.env.PATIENCE ?? 120);
const kafka = new Kafka({
  brokers: [process.env.KAFKA_BOOTSTRAP],
  logLevel: logLevel.NOTHING,
  // It repeats by itself, waiting longer each time, with jitter.
  retry: { initialRetryTime: 500, maxRetryTime: 30_000, factor: 0.5, retries: 8 },
});
// Idempotent with one request in flight: its own retries neither double nor reorder. The default partitioner is
// Java's murmur2, as all who write to this topic have it.
const producer = kafka.producer({
  idempotent: true,
  maxInFlightRequests: 1,
  createPartitioner: Partitioners.DefaultPartitioner,
});

// kafkajs counts its attempts and not the time. Whatever was not confirmed by then is still in the outbox.
setTimeout(() => {
  console.error("Kafka did not confirm in time; what was not confirmed stays in the outbox");
  process.exit(1);
}, patience).unref();

try {
  await producer.connect();
  for await (const event of orders(outbox)) {
    const { key, value, headers } = Wire.binary(event);
    await producer.send({
      topic: "orders.inbox.v1",
      acks: -1,
      // kafkajs takes headers as text or bytes only.
      messages: [{ key, value: JSON.stringify(value), headers: texts(headers) }],
    });
    await move(outbox, event.id, "sent");
  }
} catch (error) {
  console.error(`Kafka did not confirm (${error.name}); what was not confirmed stays in the outbox`);
  process.exitCode = 1;
} finally {
  await producer.disconnect();
}

function texts(headers) {
  const given = Object.entries(headers).filter(([, each]) => each !== undefined);
  return Object.fromEntries(given.map(([name, each]) => [name, String(each)]));
}
