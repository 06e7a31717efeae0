// Judges one entry of the conformance suite, in Node and on a page alike: null, or the problem in a few words.

/** Read a .npy file of the suite. */
export function npy(bytes) {
  const start = 10 + bytes[8] + 256 * bytes[9];
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, start));
  const shape = /\(([^)]*)\)/.exec(header)[1].split(",").filter((side) => side.trim()).map(Number);
  const body = bytes.slice(start);
  return { shape, data: header.includes("|u1") ? body : new Float32Array(body.buffer) };
}

function differs(have, expected, tolerance) {
  if (have.constructor !== expected.data.constructor || have.length !== expected.data.length) {
    return `${have.constructor.name} of ${have.length}, expected ${expected.data.constructor.name} of ${expected.data.length}`;
  }
  let most = 0;
  for (let i = 0; i < have.length; i++) most = Math.max(most, Math.abs(have[i] - expected.data[i]));
  return most <= tolerance ? null : `the largest difference is ${most}, allowed is ${tolerance}`;
}

/**
 * `load` is that of the package; `read(path)` gives the bytes of a file of the suite, `place(path)` what to load for a
 * folder of it; `sample` is the picture of an answer; `options` go to `load`.
 */
export async function judge({ load, read, place, options }, kind, entry, sample) {
  const key = entry.key ? new TextDecoder().decode(await read(entry.key)) : undefined;
  const engine = entry.needs.includes("litert") ? "litert" : "onnxruntime";
  const given = { ...options, engine, key, minVersion: entry.min_version ?? 0, threads: 1, check: "all" };
  if (kind === "refusals") return refusal(load, place(entry.bundle), { ...given, selftest: entry.when === "selftest" }, entry.code);
  if (kind === "bundles") {
    const model = await load(place(entry.path), { ...given, selftest: true });
    await model.close();
    const version = model.version === null ? null : Number(model.version);
    return version === entry.version ? null : `version ${version}, expected ${entry.version}`;
  }
  const model = await load(place(entry.bundle), { ...given, variant: entry.variant });
  try {
    return await answer(model, entry, sample, async (path) => npy(await read(path)));
  } finally {
    await model.close();
  }
}

async function answer(model, entry, sample, array) {
  const [feed] = await model.feeds(sample);
  const problem = differs(feed, await array(entry.input.npy), entry.input.tolerance);
  if (problem) return `input: ${problem}`;
  const outputs = await model.run(sample);
  if (String(Object.keys(outputs)) !== String(entry.outputs.map(({ name }) => name))) return `outputs ${Object.keys(outputs)}`;
  for (const output of entry.outputs) {
    const wrong = differs(outputs[output.name].data, await array(output.npy), output.tolerance);
    if (wrong) return `${output.name}: ${wrong}`;
  }
  if (!entry.top) return null;
  const best = (await model.predict(sample, 5)).map(({ index, label }) => `${index} ${label}`);
  const wanted = entry.top.map((one) => `${one.class} ${one.label}`);
  return String(best) === String(wanted) ? null : `the best classes are ${best}, expected ${wanted}`;
}

async function refusal(load, bundle, options, code) {
  try {
    await (await load(bundle, options)).close();
  } catch (error) {
    return error.code === code && error.hint ? null : `${error.code ?? error.stack}, expected ${code}`;
  }
  return `accepted, expected ${code}`;
}
