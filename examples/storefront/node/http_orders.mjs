// Hands the orders of an outbox over as CloudEvents: node http_orders.mjs FOLDER
// INTAKE is intake's address, INTAKE_KEY an API key where it asks for one, PATIENCE the seconds after which it gives up.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HTTP } from "cloudevents";
import { move, orders } from "./outbox.mjs";

const LONGEST_WAIT_MS = 30_000;
const TIME_MAY_CURE = new Set([408, 429, 500, 502, 503, 504]);
const outbox = process.argv[2];
const deadline = Date.now() + 1000 * Number(process.env.PATIENCE ?? 120);

// At random up to 0.5 s, 1 s, 2 s ... 30 s, and no less than the server asks for.
function waitBefore(attempt, answer) {
  const wait = Math.random() * Math.min(LONGEST_WAIT_MS, 500 * 2 ** attempt);
  const asked = answer?.headers.get("retry-after") ?? "";
  return /^\d+$/.test(asked) ? wait + 1000 * Number(asked) : wait;
}

// The answer, which is 202 or a refusal for good; undefined where time was over before.
async function send(event) {
  const { headers, body } = HTTP.binary(event);
  if (process.env.INTAKE_KEY) headers.authorization = `Bearer ${process.env.INTAKE_KEY}`;
  for (let attempt = 0; ; attempt++) {
    let answer;
    try {
      answer = await fetch(process.env.INTAKE, { method: "POST", headers, body, signal: AbortSignal.timeout(10_000) });
      if (!TIME_MAY_CURE.has(answer.status)) return answer;
      await answer.body?.cancel();
    } catch {
      // No connection, or no answer in time: the order may have been taken, so it is sent again under its id.
    }
    const wait = waitBefore(attempt, answer);
    if (Date.now() + wait > deadline) return undefined;
    await sleep(wait);
  }
}

for await (const event of orders(outbox)) {
  const answer = await send(event);
  if (answer === undefined) {
    console.error(`${event.id}: not taken in time; it stays in the outbox`);
    process.exit(1);
  }
  await move(outbox, event.id, answer.status === 202 ? "sent" : "refused");
  if (answer.status !== 202) {
    console.error(`${event.id}: refused with ${answer.status}; see refused/`);
    await writeFile(join(outbox, "refused", `${event.id}.problem`), await answer.text());
  }
}
