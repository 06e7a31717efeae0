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
 * folder of it; `picture(name)` a picture; `options` go to `load`. With `lacking`, the code of an ability that the
 * runtime lacks, the entry must be refused by it.
 */
export async function judge({ load, read, place, picture, options }, kind, entry, lacking) {
  const key = entry.key ? new TextDecoder().decode(await read(entry.key)) : undefined;
  const engine = entry.needs.includes("litert") ? "litert" : "onnxruntime";
  const given = { ...options, engine, key, minVersion: entry.min_version ?? 0, threads: 1 };
  if (lacking) return refusal(load, place(entry.bundle ?? entry.path), given, lacking);
  if (kind === "refusals") {
    const asked = { ...given, selftest: entry.when === "selftest" };
    const all = await refusal(load, place(entry.bundle), { ...asked, check: "all" }, entry.code);
    // By default a file is compared when it is read; the golden pairs read what loading leaves.
    return all ?? refusal(load, place(entry.bundle), { ...asked, selftest: true }, entry.code);
  }
  if (kind === "bundles") {
    const model = await load(place(entry.path), { ...given, variant: entry.variant, selftest: true });
    await model.close();
    const version = model.version === null ? null : Number(model.version);
    return version === entry.version ? null : `version ${version}, expected ${entry.version}`;
  }
  const model = await load(place(entry.bundle), { ...given, variant: entry.variant });
  try {
    const array = async (path) => npy(await read(path));
    const samples = {};
    for (const one of entry.inputs) samples[one.name] = one.picture === null ? (await array(one.numbers)).data : await picture(one.picture);
    return await answer(model, entry, entry.inputs.length > 1 ? samples : Object.values(samples)[0], array);
  } finally {
    await model.close();
  }
}

async function answer(model, entry, sample, array) {
  const feeds = await model.feeds(sample);
  for (const [i, { name, npy: path, tolerance }] of entry.inputs.entries()) {
    const problem = differs(feeds[i], await array(path), tolerance);
    if (problem) return `input ${name}: ${problem}`;
  }
  const outputs = await model.run(sample);
  if (String(Object.keys(outputs)) !== String(entry.outputs.map(({ name }) => name))) return `outputs ${Object.keys(outputs)}`;
  for (const output of entry.outputs) {
    const { data, shape } = outputs[output.name];
    const expected = await array(output.npy);
    if (String([1, ...shape]) !== String(expected.shape)) return `${output.name} has the shape ${shape}`;
    const wrong = differs(data, expected, output.tolerance);
    if (wrong) return `${output.name}: ${wrong}`;
  }
  return (await wrongText(model, entry, sample)) ?? (await wrongPicture(model, entry, sample, array)) ?? (await wrongClasses(model, entry, sample));
}

async function wrongText(model, entry, sample) {
  if (entry.text === null) return null;
  const { text } = await model.read(sample);
  return text === entry.text ? null : `the text is ${text}, expected ${entry.text}`;
}

async function wrongPicture(model, entry, sample, array) {
  if (entry.image === null) return null;
  const { data, width, height, channels } = await model.image(sample);
  const expected = await array(entry.image);
  if (String([height, width, channels]) !== String(expected.shape)) return `the picture has ${height} x ${width} x ${channels}`;
  const problem = differs(data, expected, 0);
  return problem && `image: ${problem}`;
}

async function wrongClasses(model, entry, sample) {
  if (entry.top === null) return null;
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
