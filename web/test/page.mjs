// Opens a page of `xxdeploy serve` in headless Chromium, gives it a picture, and prints what it shows as JSON.
//
//     node test/page.mjs ADDRESS PICTURE [FOLDER]     with FOLDER, screenshots: 1280 and 390 pixels wide, light and dark
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./browser.mjs";

const [address, picture, folder] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage();
const errors = [];
const hosts = new Set();
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
page.on("pageerror", (error) => errors.push(String(error)));
page.on("request", (request) => /^(https?|wss?):/.test(request.url()) && hosts.add(new URL(request.url()).host));
await page.goto(address);
await page.waitForSelector("body[data-ready]", { timeout: 60_000 });
const enabled = await page.$eval("#file", (input) => !input.disabled);
if (enabled) {
  await (await page.$("#file")).uploadFile(picture);
  await page.waitForFunction(() => document.querySelector("#classes li, #error:not([hidden]), #output:not([hidden]), #text:not([hidden])"), { timeout: 30_000 });
  await page.waitForFunction(() => document.querySelector("#facts").textContent.includes("time") || !document.querySelector("#error").hidden, { timeout: 30_000 });
}
// Drop a picture that takes long and then the given one: only the answer to the second may stay.
const bytes = readFileSync(picture).toString("base64");
await page.evaluate(async (base64) => {
  const canvas = new OffscreenCanvas(5000, 5000);
  canvas.getContext("2d").fillRect(0, 0, 5000, 5000);
  const slow = await canvas.convertToBlob();
  const quick = new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]);
  for (const blob of [slow, quick]) {
    const transfer = new DataTransfer();
    transfer.items.add(new File([blob], "picture.png", { type: "image/png" }));
    document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
  }
}, bytes);
await new Promise((resolve) => setTimeout(resolve, 2000));
if (folder) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    for (const [width, height] of [[1280, 800], [390, 844]]) {
      await page.setViewport({ width, height });
      await page.screenshot({ path: join(folder, `page-${width}-${scheme}.png`), fullPage: true });
    }
  }
}
const shown = await page.evaluate(() => ({
  title: document.title,
  isolated: crossOriginIsolated,
  proof: document.querySelector("#proof").textContent,
  state: document.querySelector("#proof").dataset.state,
  classes: [...document.querySelectorAll("#classes li")].map((row) => [...row.querySelectorAll("span")].map((part) => part.textContent)),
  facts: document.querySelector("#facts").innerText,
  error: document.querySelector("#error").textContent,
  stored: Object.entries(localStorage),
  wide: document.documentElement.scrollWidth > innerWidth,
}));
console.log(JSON.stringify({ ...shown, errors, hosts: [...hosts] }, null, 1));
await browser.close();
