// Tasks, samples and errors of a model, with an engine in JavaScript. The arithmetic of pictures is in the conformance suite.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BundleError, EngineError, load, UsageError, VerificationError, XXDeployError } from "../dist/xxdeploy-node.js";
import { bundleOf, engineOf } from "./fakes.mjs";

const BLACK = { data: new Uint8Array(12), width: 2, height: 2 };

async function open(bundle, run, options = {}) {
  const { module, session } = engineOf(bundle, run);
  const model = await load(bundle, { onnxruntime: async () => module, ...options });
  return { model, session };
}

const code = (wanted, kind = XXDeployError) => (error) => {
  assert.ok(error instanceof kind, String(error));
  assert.equal(error.code, wanted);
  assert.ok(error.hint.length > 5 && error.toString().includes(error.hint));
  return true;
};

const classifier = (changes) =>
  bundleOf({ task: "classification", classes: 3, labels: ["a", "b", "c"], output: { data: Float32Array.of(0.2, 0.4, 0.4), shape: [3] }, changes });

test("the best classes come first, equal ones in the order of their index", async () => {
  const { model } = await open(classifier(), () => [Float32Array.of(0.2, 0.4, 0.4)]);
  assert.deepEqual((await model.predict(BLACK)).map(({ label }) => label), ["b", "c", "a"]);
  assert.deepEqual((await model.predict(BLACK, 1)).map(({ index }) => index), [1]);
  await assert.rejects(model.predict(BLACK, 0), code("top-invalid", UsageError));
  assert.deepEqual(await model.verify(), {
    variant: "first", engine: "onnxruntime", images: 1, maxAbs: 0, tolerance: 0.01, agreement: 1,
  });
  assert.match(model.digest, /^[0-9a-f]{64}$/);
});

test("another output than the golden one is a mismatch, and NaN is no output", async () => {
  const { model } = await open(classifier(), () => [Float32Array.of(0.4, 0.2, 0.4)]);
  await assert.rejects(model.verify(), code("golden-mismatch", VerificationError));
  const { model: broken } = await open(classifier(), () => [Float32Array.of(NaN, 0.2, 0.4)]);
  await assert.rejects(broken.predict(BLACK), code("engine-output", EngineError));
  const { model: failing } = await open(classifier(), () => {
    throw new Error("out of memory");
  });
  await assert.rejects(failing.predict(BLACK), (error) => code("engine-run")(error) && /out of memory/.test(error.message));
});

test("each task has its method, and the others name it", async () => {
  const { model } = await open(classifier(), () => [Float32Array.of(0.2, 0.4, 0.4)]);
  for (const method of ["features", "values", "image", "read"]) {
    await assert.rejects(model[method](BLACK), (error) => code("wrong-task", UsageError)(error) && error.hint === "call predict() or probabilities()");
  }
  const output = { data: Float32Array.of(1, 2, 3, 4), shape: [2, 2] };
  for (const task of ["features", "values"]) {
    const { model: numbers } = await open(bundleOf({ task, output }), () => [output.data]);
    assert.deepEqual(await numbers[task](BLACK), { data: output.data, shape: [2, 2] });
  }
});

test("a picture is scaled by its range, and a mask has the best class of each pixel", async () => {
  const gray = { data: Float32Array.of(-1, 0, 1, 7), shape: [2, 2, 1] };
  const { model } = await open(bundleOf({ task: "image", output: gray, changes: { manifest: { output_range: [-1, 1] } } }), () => [gray.data]);
  assert.deepEqual(await model.image(BLACK), { data: Uint8Array.of(0, 128, 255, 255), width: 2, height: 2, channels: 1 });
  const scores = { data: Float32Array.of(0, 1, 0, 2, 2, 1), shape: [1, 2, 3] };
  const mask = await open(bundleOf({ task: "image", classes: 3, output: scores }), () => [scores.data]);
  assert.deepEqual(await mask.model.image(BLACK), { data: Uint8Array.of(1, 0), width: 2, height: 1, channels: 1 });
});

test("a text is decoded by CTC: repeats and blanks are left out", async () => {
  const best = [0, 0, 2, 0, 1];
  const steps = { data: Float32Array.from(best.flatMap((index) => [0, 1, 2].map((i) => (i === index ? 0.5 : 0.25)))), shape: [5, 3] };
  const changes = { manifest: { blank: 2 } };
  const { model } = await open(bundleOf({ task: "sequence", classes: 3, labels: ["x", " ", "-"], output: steps, changes }), () => [steps.data]);
  assert.deepEqual(await model.read(BLACK), { text: "xx ", probability: 0.5 ** 5 });
});

test("bytes stay bytes for a file with uint8 input", async () => {
  const bundle = bundleOf({ task: "features", output: { data: Float32Array.of(0), shape: [1] }, inputDtype: "uint8" });
  let fed;
  const { model } = await open(bundle, (data) => [Float32Array.of((fed = data)[0])]);
  assert.deepEqual((await model.features({ data: new Uint8Array(12).fill(9), width: 2, height: 2 })).data, Float32Array.of(9));
  assert.ok(fed instanceof Uint8Array);
});

test("a picture that is none is refused by name", async () => {
  const { model } = await open(classifier(), () => [Float32Array.of(0.2, 0.4, 0.4)], { maxPixels: 100 });
  for (const [picture, wanted] of [
    [{ data: new Uint8Array(13), width: 2, height: 2 }, "image-array"],
    [{ data: new Float32Array(12), width: 2, height: 2 }, "image-array"],
    [{ data: new Uint8Array(0), width: 0, height: 2 }, "image-array"],
    [{ data: new Uint8Array(12), width: 1.5, height: 2 }, "image-array"],
    [{ data: new Uint8Array(11 * 11), width: 11, height: 11 }, "image-too-large"],
    ["cat.jpg", "image-type"],
    [null, "image-type"],
  ]) {
    await assert.rejects(model.predict(picture), code(wanted, UsageError));
  }
});

test("a model of two inputs takes them by name", async () => {
  const more = { name: "vector", preprocess: { shape: [2], range: null }, golden: "golden/inputs.2.npy" };
  const { npyOf } = await import("./fakes.mjs");
  const bundle = bundleOf({
    task: "values", output: { data: Float32Array.of(3), shape: [1] },
    changes: { manifest: { more_inputs: [more] }, files: { "golden/inputs.2.npy": npyOf(Float32Array.of(1, 2), [1, 2]) } },
  });
  bundle.manifest.variants[0].inputs.push({ name: "vector", dtype: "float32", shape: [null, 2], layout: null });
  bundle.files["manifest.json"] = new TextEncoder().encode(JSON.stringify(bundle.manifest));
  const { model } = await open(bundle, (picture, vector) => [Float32Array.of(picture[0] + vector[0] + vector[1])]);
  await model.verify();
  assert.deepEqual((await model.values({ image: BLACK, vector: [4, 5] })).data, Float32Array.of(9));
  await assert.rejects(model.values({ image: BLACK }), code("wrong-inputs", UsageError));
  await assert.rejects(model.values({ image: BLACK, vector: [1] }), code("array-shape", UsageError));
  await assert.rejects(model.values({ image: BLACK, vector: [1, NaN] }), code("array-values", UsageError));
});

test("a model file that is not as the manifest says is refused, and its engine freed", async () => {
  const bundle = classifier();
  const { module, session } = engineOf(bundle, () => []);
  session.inputMetadata[0].type = "uint8";
  await assert.rejects(load(bundle, { onnxruntime: async () => module }), code("bundle-signature", BundleError));
  assert.ok(session.released);
});

test("a closed model says so", async () => {
  const { model, session } = await open(classifier(), () => [Float32Array.of(0.2, 0.4, 0.4)]);
  await model.close();
  await model.close();
  assert.ok(session.released);
  await assert.rejects(model.predict(BLACK), code("closed", UsageError));
  await assert.rejects(model.verify(), code("closed", UsageError));
});

test("options are checked before anything is read", async () => {
  for (const [options, wanted] of [
    [{ engine: "tensorflow" }, "unknown-engine"],
    [{ variant: "fp64" }, "unknown-variant"],
    [{ threads: 0 }, "threads-invalid"],
    [{ tuning: "always" }, "tuning-invalid"],
    [{ check: "none" }, "bad-value"],
    [{ minVersion: 3 }, "min-version-without-key"],
    [{ minVersion: -1 }, "version-invalid"],
    [{ key: "no key" }, "key-invalid"],
    [{ key: "-----BEGIN PRIVATE KEY-----" }, "key-invalid"],
  ]) {
    const bundle = classifier();
    await assert.rejects(load(bundle, options), code(wanted, UsageError));
    assert.ok(options.variant || bundle.reads.length === 0);
  }
  await assert.rejects(load(classifier(), { engine: "litert" }), code("no-variant", BundleError));
  const litert = bundleOf({ task: "features", output: { data: Float32Array.of(0), shape: [1] }, suffix: "tflite", requires: ["litert"] });
  await assert.rejects(load(litert), code("no-variant", BundleError));
  await assert.rejects(load(litert, { engine: "litert" }), code("missing-dependency"));
});

test("only the files that are used are read, unless all are asked for", async () => {
  const bundle = classifier({ files: { "report.html": new Uint8Array(3) } });
  await open(bundle, () => []);
  assert.ok(!bundle.reads.includes("report.html") && bundle.reads.includes("labels.txt"));
  bundle.files["report.html"] = new Uint8Array([1, 2, 3]);
  await assert.rejects(open(bundle, () => [], { check: "all" }), code("file-hash", BundleError));
});

/** What a page has and Node lacks: a decoder and a canvas that find one clear pixel. */
function pageWith(run) {
  const data = new Uint8ClampedArray(16);
  const context = { clearRect() {}, drawImage() {}, getImageData: () => ({ data }) };
  const names = { createImageBitmap: async () => ({ width: 2, height: 2, close() {} }), OffscreenCanvas: class { getContext = (kind) => (kind === "2d" ? context : null); } };
  Object.assign(globalThis, names);
  return run().finally(() => Object.keys(names).forEach((name) => delete globalThis[name]));
}

test("files that browsers read otherwise than Python are refused: turned WebP, clear pixels of a GIF", async () => {
  const { model } = await open(classifier(), () => [Float32Array.of(0.2, 0.4, 0.4)]);
  const webp = (flags, entry) => new Blob([`RIFF\x01\x01\x01\x01WEBPVP8X\x0a\0\0\0${String.fromCharCode(flags)}`, "EXIF", entry]);
  const turned = ["\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"];
  await pageWith(async () => {
    for (const entry of turned) await assert.rejects(model.predict(webp(8, entry)), code("image-format", UsageError));
    await assert.rejects(model.predict(new Blob(["GIF89a"])), code("image-transparent", UsageError));
    // These come as far as the colors under clear pixels, which the canvas of this test has not.
    const upright = [webp(8, "\x12\x01\x03\0\x01\0\0\0\x01\0\0\0"), webp(0, turned[0]), new Blob(["\x89PNG"])];
    for (const blob of upright) await assert.rejects(model.predict(blob), /of this many lines/);
  });
});

test("no cache can mix the files of two bundles: each is asked for again", async () => {
  const bundle = classifier();
  const asked = [];
  const before = globalThis.fetch;
  globalThis.fetch = async (url, { cache }) => {
    asked.push(cache);
    const bytes = bundle.files[new URL(url).pathname.slice("/bundle/".length)];
    return bytes ? new Response(bytes) : new Response(null, { status: 404 });
  };
  try {
    const { module } = engineOf(bundle, () => [Float32Array.of(0.2, 0.4, 0.4)]);
    const model = await load("http://example.test/bundle", { onnxruntime: async () => module, selftest: true });
    assert.equal((await model.predict(BLACK, 1))[0].label, "b");
  } finally {
    globalThis.fetch = before;
  }
  assert.ok(asked.length >= 4 && asked.every((cache) => cache === "no-cache"), String(asked));
});
