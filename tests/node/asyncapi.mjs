// Whether a file is a valid AsyncAPI document, by the initiative's own parser: node asyncapi.mjs FILE
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const SEVERITY = ["error", "warning", "information", "hint"];
const { document, diagnostics } = await new Parser().parse(await readFile(process.argv[2], "utf8"));
for (const each of diagnostics) {
  console.log(`${SEVERITY[each.severity]}: ${each.path.join(".")}: ${each.message}`);
}
const faults = diagnostics.filter((each) => each.severity <= 1);
if (!document || faults.length > 0) process.exit(1);
console.log(`AsyncAPI ${document.version()}: ${document.channels().length} channels, ${document.messages().length} messages`);
