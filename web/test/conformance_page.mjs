// Judges the package in headless Chromium by the conformance suite: the page decodes the PNG files itself. Prints TAP.
//
//     node test/conformance_page.mjs FOLDER [EVERY]     with EVERY, only each EVERYth entry that needs no PNG decoder
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, serve } from "./browser.mjs";

/** What a page can do, in the words of `needs`. Over HTTP there are no links. */
const ABLE = ["onnx", "litert", "png", "signature", "schemas-1-to-4", "several-inputs"];
const [root, every = "1"] = process.argv.slice(2);
const here = dirname(dirname(fileURLToPath(import.meta.url)));
const suite = JSON.parse(readFileSync(join(root, "expected.json"), "utf8"));
const server = await serve({ "/": join(here, "test", "page"), "/suite/": root, "/dist/": join(here, "dist"), "/test/": join(here, "test"), "/nm/": join(here, "node_modules") });
const browser = await launch();
const page = await browser.newPage();
await page.goto(`${server.url}/conformance.html`);

const entries = ["bundles", "answers", "refusals"].flatMap((kind) => suite[kind].map((entry) => ({ kind, entry })));
const chosen = entries.filter(({ entry }, i) => entry.needs.includes("png") || i % Number(every) === 0);
console.log(`TAP version 13\n1..${chosen.length}`);
let failed = 0;
for (const [number, { kind, entry }] of chosen.entries()) {
  const name = `${number + 1} - ${kind}: ${entry.name ?? entry.path}`;
  const absent = kind === "refusals" && entry.code === "bundle-not-found"; // a server has no folders
  const lacking = absent ? "links" : entry.needs.find((word) => !ABLE.includes(word));
  const code = suite.without[lacking];
  const skipped = lacking && !code;
  const problem = skipped ? null : await page.evaluate((...args) => globalThis.judge(...args), kind, entry, code ?? null);
  if (problem) failed++;
  console.log(problem ? `not ok ${name}: ${problem}` : `ok ${name}${skipped ? ` # SKIP ${lacking}` : ""}`);
}
await browser.close();
server.close();
process.exitCode = failed ? 1 : 0;
