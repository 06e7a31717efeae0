// Runs one job of benchmarks/web.py in headless Chromium, and prints its result as JSON.
//
//     node bench/bench.mjs JOB.json
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, serve } from "../test/browser.mjs";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const { work, pictures, call, args } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const folders = { "/": join(here, "bench"), "/dist/": join(here, "dist"), "/nm/": join(here, "node_modules"), "/files/": work };
const server = await serve(pictures ? { ...folders, "/pictures/": pictures } : folders);
const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.url}/bench.html`);
  await page.waitForFunction(() => globalThis.ready);
  console.log(JSON.stringify(await page.evaluate((name, given) => globalThis[name](...given), call, args)));
} finally {
  await browser.close();
  server.close();
}
