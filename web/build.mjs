// Builds dist/xxdeploy-web.js for pages and dist/xxdeploy-node.js for Node (minified, without the engines), and types.
import { execFileSync } from "node:child_process";
import { build } from "esbuild";

/** Globals that the sources name often, under short names: the package has a limit of 40 kB. */
const SHORT = { $a: "Array.from", $f: "Float32Array", $i: "Number.isInteger", $n: "Number.isFinite", $u: "Uint8Array" };
const define = Object.fromEntries(Object.entries(SHORT).map(([short, long]) => [long, short]));
const banner = { js: `const ${Object.entries(SHORT).map((pair) => pair.join("=")).join()};` };

for (const [name, platform] of [["web", "browser"], ["node", "node"]]) {
  await build({
    entryPoints: ["src/index.ts"],
    outfile: `dist/xxdeploy-${name}.js`,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform,
    define: { ...define, NODE: String(name === "node") },
    banner,
    external: ["@litertjs/core", "onnxruntime-web/*", "node:*"],
    // Private names, which no type shows.
    mangleProps: /^(checkOpen|checked|answer|feed|scaled|weights|places)$/,
    legalComments: "none",
    logLevel: "warning",
  });
}
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "."], { stdio: "inherit" });
