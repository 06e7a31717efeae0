// Judges the package in Node by the conformance suite (docs/reference/conformance.md), and prints TAP.
//
//     node test/conformance.mjs FOLDER [EVERY]      with EVERY, all refusals and each EVERYth other entry
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { load } from "../dist/xxdeploy-node.js";
import { judge, npy } from "./judge.mjs";

/** What Node can do, in the words of `needs`: it decodes no pictures. */
const ABLE = ["onnx", "links", "signature", "schemas-1-to-4", "several-inputs"];
const [root, every = "1"] = process.argv.slice(2);
const read = async (path) => new Uint8Array(await readFile(join(root, path)));
const suite = JSON.parse(await readFile(join(root, "expected.json"), "utf8"));
const world = { load, read, place: (path) => join(root, path), picture, options: {} };

async function picture(wanted) {
  const { data, shape } = npy(await read(suite.pictures.find(({ name }) => name === wanted).npy));
  return { data, width: shape[1], height: shape[0] };
}

const entries = ["bundles", "answers", "refusals"].flatMap((kind) =>
  suite[kind].filter((_, i) => kind === "refusals" || i % Number(every) === 0).map((entry) => ({ kind, entry })),
);
console.log(`TAP version 13\n1..${entries.length}`);
let failed = 0;
for (const [number, { kind, entry }] of entries.entries()) {
  const name = `${number + 1} - ${kind}: ${entry.name ?? entry.path}`;
  const lacking = entry.needs.find((word) => !ABLE.includes(word));
  const code = suite.without[lacking];
  const skipped = lacking && !code;
  const problem = skipped
    ? null
    : await judge(world, kind, entry, code).catch((error) => (error.code ? `${error.code}: ${error.message}` : error.stack));
  if (problem) failed++;
  console.log(problem ? `not ok ${name}: ${problem}` : `ok ${name}${skipped ? ` # SKIP ${lacking}` : ""}`);
}
process.exitCode = failed ? 1 : 0;
