// Builds dist/xxdeploy-web.js for pages and dist/xxdeploy-node.js for Node (minified, without the engines), and types.
import { execFileSync } from "node:child_process";
import { build } from "esbuild";

for (const [name, platform] of [["web", "browser"], ["node", "node"]]) {
  await build({
    entryPoints: ["src/index.ts"],
    outfile: `dist/xxdeploy-${name}.js`,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform,
    define: { NODE: String(name === "node") },
    external: ["@litertjs/core", "onnxruntime-web/*", "node:*"],
    // Private names, which no type shows.
    mangleProps: /^(checkOpen|checked|answer|feed|scaled|weights|places)$/,
    legalComments: "none",
    logLevel: "warning",
  });
}
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "."], { stdio: "inherit" });
