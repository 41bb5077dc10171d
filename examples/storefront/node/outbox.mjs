// An outbox: one file per order, whose name is the order's id. A file leaves it only when its order is taken for good.
import { mkdir, readFile, readdir, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import { CloudEvent } from "cloudevents";

export async function* orders(folder) {
  for (const name of (await readdir(folder)).filter((each) => each.endsWith(".json")).sort((one, other) => one.localeCompare(other))) {
    const id = basename(name, ".json");
    const data = JSON.parse(await readFile(join(folder, name), "utf8"));
    // The event's id is the file's name: the same at every attempt, and after a restart.
    yield new CloudEvent({
      type: "dev.orderflow.order.placed.v1",
      source: "/shop/example",
      id,
      subject: id,
      partitionkey: id,
      datacontenttype: "application/json",
      data,
    });
  }
}

export async function move(folder, id, to) {
  await mkdir(join(folder, to), { recursive: true });
  await rename(join(folder, `${id}.json`), join(folder, to, `${id}.json`));
}
