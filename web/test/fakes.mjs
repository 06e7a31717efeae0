// A bundle in memory, and an engine that computes its outputs in JavaScript.
import { createHash } from "node:crypto";

const text = (value) => new TextEncoder().encode(value);

/** Write a .npy file of version 1.0. */
export function npyOf(data, shape) {
  const descr = data instanceof Uint8Array ? "|u1" : "<f4";
  const head = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const padded = head.padEnd(Math.ceil((head.length + 11) / 64) * 64 - 11) + "\n";
  const bytes = new Uint8Array(10 + padded.length + data.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  bytes.set(text(padded), 10);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 10 + padded.length);
  return bytes;
}

const PICTURE = { channels: 3, height: 2, mode: "none", resize: "squash", width: 2 };

/**
 * A bundle of schema 5 that reads a picture of 2 x 2; `outputs` are the golden outputs of its one golden picture, which
 * is black. `changes` replaces keys of the manifest.
 */
export function bundleOf({ output, task, classes = 0, labels = null, changes = {}, inputDtype = "float32", suffix = "onnx", requires = [] }) {
  const shape = [null, ...output.shape];
  const files = {
    [`model.${suffix}`]: text("a model"),
    "golden/inputs.npy": npyOf(new Uint8Array(12), [1, 2, 2, 3]),
    "golden/outputs.npy": npyOf(output.data, [1, ...output.shape]),
    ...(labels ? { "labels.txt": text(labels.map((name) => `${name}\n`).join("")) } : {}),
    ...changes.files,
  };
  const variant = {
    name: "first", model: `model.${suffix}`, precision: "int8", scheme: "static", golden: "golden/outputs.npy", requires,
    inputs: [{ name: "image", dtype: inputDtype, shape: [null, 2, 2, 3], layout: "NHWC" }],
    outputs: [{ name: "out", dtype: "float32", shape }],
  };
  const manifest = {
    schema: 5, name: "fake", task, input_name: "image", output_name: "out", preprocess: PICTURE, classes,
    labels: labels && "labels.txt", variants: [variant], golden: { inputs: "golden/inputs.npy", tolerance: 0.01 },
    tools: {}, source: {}, evidence: {}, more_outputs: [], output_range: null, blank: null, more_inputs: [], ...changes.manifest,
    files: Object.entries(files).map(([path, bytes]) => ({
      path, sha256: createHash("sha256").update(bytes).digest("hex"), size: bytes.length,
    })),
  };
  const all = { ...files, "manifest.json": text(JSON.stringify(manifest).replace('"tolerance":1}', '"tolerance":1.0}')) };
  return {
    name: "memory", files: all, manifest, reads: [],
    async read(path, limit) {
      this.reads.push(path);
      return all[path]?.slice(0, limit) ?? null;
    },
  };
}

/** A module like onnxruntime-web whose model maps the first input to `run(data)`, an array of outputs. */
export function engineOf(bundle, run) {
  const { inputs, outputs } = bundle.manifest.variants[0];
  const metadata = (tensors) => tensors.map(({ name, dtype, shape }) => ({ name, isTensor: true, type: dtype, shape: shape.map((side) => side ?? -1) }));
  const session = {
    inputMetadata: metadata(inputs),
    outputMetadata: metadata(outputs),
    released: false,
    run: async (feeds) => {
      const results = run(...Object.values(feeds).map(({ data }) => data));
      return Object.fromEntries(outputs.map(({ name }, i) => [name, { data: results[i] }]));
    },
    release: async () => (session.released = true),
  };
  class Tensor {
    constructor(type, data, dims) {
      Object.assign(this, { type, data, dims });
    }
  }
  return { session, module: { Tensor, InferenceSession: { create: async () => session }, env: { versions: {} } } };
}
