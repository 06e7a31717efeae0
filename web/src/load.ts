/** `load`: open a bundle, choose its file and engine, check what is read, and make it ready to predict. */
import { BundleError, quoted, UsageError, XXDeployError } from "./errors.js";
import { ENGINES, isInstalled, openSession, threadsFor, type EngineFiles, type EngineName } from "./engines.js";
import { labelsFrom, readEntry, sha256, sourceOf, type Source } from "./files.js";
import { MAX_BYTES } from "./json.js";
import { MANIFEST, manifestFrom, type Manifest, type Variant } from "./manifest.js";
import { Model } from "./model.js";
import { MAX_SIGNATURE_BYTES, trustOf, versionOf } from "./signature.js";
import { min } from "./resample.js";

export interface LoadOptions extends EngineFiles {
  /** Public keys (the text of a PEM file): the bundle must be signed with one of them. */
  readonly key?: string | Uint8Array;
  /** Refuse a bundle that was signed as an older version. */
  readonly minVersion?: number | bigint;
  /** The engine; without it the one that a measurement chose, or the first that is there. */
  readonly engine?: EngineName;
  /** The name of a variant of the bundle. */
  readonly variant?: string;
  /** Threads of one inference. More than one needs a page that is isolated from other origins. */
  readonly threads?: number;
  /**
   * `measure` (the default in a browser): try the engines and files that are there once, for about a second each, and
   * keep the fastest that passes the golden pairs in localStorage. `stored`: only a choice that was kept. `off`: the
   * first. An engine or a variant that is given turns it off.
   */
  readonly tuning?: "measure" | "stored" | "off";
  /** `used` (the default) hashes the files that are read; `all` reads and hashes every file of the bundle. */
  readonly check?: "used" | "all";
  /** Run the golden pairs, too. */
  readonly selftest?: boolean;
  /** Refuse larger pictures. 64,000,000 by default. */
  readonly maxPixels?: number;
}

interface Choice {
  readonly engine: EngineName;
  readonly variant: Variant;
}

interface Opened {
  readonly source: Source;
  readonly manifest: Manifest;
  readonly digest: string;
  readonly version: bigint | null;
}

const MEASURED_RUNS = 8;
const MEASURED_MS = 1000;
const PREFIX = "xxdeploy:";

/**
 * Load the bundle at a URL, in Node also in a folder.
 *
 * `BundleError`: it is damaged, incomplete, hostile or of another version; `signature-*` with a key; `no-variant`.
 * `EngineError`, `MissingDependencyError`: no engine can run it. `UsageError`: `unknown-variant`, `unknown-engine`,
 * `threads-invalid`, `tuning-invalid`, `key-invalid`, `min-version-without-key`, `version-invalid`.
 */
export async function load(bundle: string | URL | Source, options: LoadOptions = {}): Promise<Model> {
  checkOptions(options);
  const threads = threadsFor(options.threads);
  const opened = await openBundle(sourceOf(bundle), options);
  if (options.check === "all") for (const entry of opened.manifest.files) await readEntry(opened.source, entry);
  const fixed = options.engine !== undefined || options.variant !== undefined;
  const tuning = fixed ? "off" : (options.tuning ?? (NODE ? "off" : "measure"));
  const candidates = await candidatesFor(opened.manifest, options);
  const stored = tuning === "off" ? undefined : recall(opened.digest, threads, candidates);
  let model: Model;
  if (stored === undefined && tuning === "measure" && candidates.length > 1) {
    model = await fastest(opened, candidates, threads, options);
  } else {
    model = await open(opened, stored ?? candidates[0]!, threads, options);
  }
  if (options.selftest) await model.verify();
  return model;
}

function checkOptions({ engine, tuning, check }: LoadOptions): void {
  const known = (name: string, value: string | undefined, choices: readonly string[], code: string) => {
    if (value !== undefined && !choices.includes(value)) throw new UsageError(`${name} cannot be ${quoted(String(value))}`, `${name}: ${choices.join(" or ")}`, code);
  };
  known("engine", engine, ENGINES, "unknown-engine");
  known("tuning", tuning, ["measure", "stored", "off"], "tuning-invalid");
  known("check", check, ["used", "all"], "bad-value");
}

/** Read the manifest; with a key its signature is checked before it is parsed. */
async function openBundle(source: Source, options: LoadOptions): Promise<Opened> {
  const trust = trustOf(options.key, options.minVersion);
  const bytes = await source.read(MANIFEST, MAX_BYTES + 1);
  if (bytes === null) {
    throw new BundleError(`${source.name} is not a bundle: there is no ${MANIFEST}`, "give the folder that `xxdeploy export` wrote", "not-a-bundle");
  }
  const version = trust && (await versionOf(trust, bytes, await source.read("manifest.sig", MAX_SIGNATURE_BYTES)));
  return { source, manifest: manifestFrom(bytes), digest: await sha256(bytes), version };
}

/** Engines that can be imported, each with the variants that it reads, in the order of preference. */
async function candidatesFor(manifest: Manifest, options: LoadOptions): Promise<Choice[]> {
  const usual: EngineName[] = NODE ? ["onnxruntime"] : [...ENGINES];
  const engines = options.engine ? [options.engine] : usual;
  const fitting = engines.flatMap((engine) => variantsFor(manifest, engine, options.variant).map((variant) => ({ engine, variant })));
  if (!fitting.length) throw noVariant(manifest, options);
  if (options.engine) return fitting;
  const installed = new Map<EngineName, boolean>();
  for (const { engine } of fitting) if (!installed.has(engine)) installed.set(engine, await isInstalled(engine, options));
  const ready = fitting.filter(({ engine }) => installed.get(engine));
  return ready.length ? ready : fitting.slice(0, 1); // opening it says which library is missing
}

/**
 * The best variant of each precision that an engine reads. WebAssembly adds 8-bit products in 32 bits, as `vnni` asks;
 * Node's engine may be native, and then a processor without VNNI would saturate.
 */
function variantsFor(manifest: Manifest, engine: EngineName, name: string | undefined): Variant[] {
  const isLitert = engine.startsWith("litert");
  const suffix = isLitert ? /\.tflite$/ : /\.(onnx|ort)$/;
  const readable = manifest.variants.filter(
    (variant) => suffix.test(variant.model) && variant.requires.includes("litert") === isLitert && (name === undefined || variant.name === name),
  );
  if (name !== undefined) return readable;
  const portable = readable.filter((variant) => variant.requires.every((word) => word === "litert" || (word === "vnni" && !NODE)));
  return portable.filter((variant, i) => portable.findIndex((other) => other.precision === variant.precision) === i);
}

function noVariant(manifest: Manifest, { variant, engine }: LoadOptions): XXDeployError {
  const names = manifest.variants.map((each) => each.name).join(", ");
  if (variant !== undefined && !manifest.variants.some((each) => each.name === variant)) {
    return new UsageError(`${manifest.name} has no variant ${quoted(variant)}`, `it has ${names}`, "unknown-variant");
  }
  return new BundleError(
    `no variant of ${manifest.name} is for ${engine ?? "a browser"}; it has ${names}`,
    "export again with --target web or --with litert, or choose another engine",
    "no-variant",
  );
}

async function open(opened: Opened, { engine, variant }: Choice, threads: number, options: LoadOptions): Promise<Model> {
  const { manifest, source } = opened;
  const read = (path: string) => readEntry(source, manifest.files.find((entry) => entry.path === path)!);
  const { classes } = manifest.outputs[0]!;
  const [model, text] = await Promise.all([read(variant.model), manifest.labels === null ? null : read(manifest.labels)]);
  const labels = text === null ? Array.from({ length: classes }, (_, i) => String(i)) : labelsFrom(text, classes, manifest.blank !== null);
  const session = await openSession(engine, model, threads, options);
  try {
    return new Model({ ...opened, variant, labels, session, maxPixels: options.maxPixels ?? 64_000_000 });
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** Open the candidates one after the other; keep the fastest that passes the golden pairs. */
async function fastest(opened: Opened, candidates: readonly Choice[], threads: number, options: LoadOptions): Promise<Model> {
  let best: Model | undefined;
  let bestTime = Infinity;
  let first: unknown;
  for (const choice of candidates) {
    let model: Model | undefined;
    try {
      model = await open(opened, choice, threads, options);
      await model.verify();
      const time = await measured(model);
      if (time < bestTime) [best, model, bestTime] = [model, best, time];
    } catch (error) {
      if (error instanceof BundleError) throw error; // a damaged file is no slow engine
      first ??= error;
    }
    await model?.close();
  }
  if (best === undefined) throw first;
  remember(opened.digest, threads, { engine: best.engine, variant: best.variant });
  return best;
}

/** The shortest time of an inference, in milliseconds. */
async function measured(model: Model): Promise<number> {
  const feeds = model.session.inputs.map(({ dtype, shape }) => {
    const count = shape.slice(1).reduce<number>((a, b) => a * (b ?? 1), 1);
    return dtype === "uint8" ? new Uint8Array(count).fill(127) : new Float32Array(count);
  });
  let shortest = Infinity;
  const end = performance.now() + MEASURED_MS;
  for (let i = 0; i < MEASURED_RUNS && performance.now() < end; i++) {
    await model.infer(feeds);
    shortest = min(shortest, model.lastMilliseconds);
  }
  return shortest;
}

/** A choice holds for this bundle, this browser and this number of threads. */
function keyOf(digest: string, threads: number): string {
  return `${PREFIX}${digest.slice(0, 32)}:${threads}`;
}

function recall(digest: string, threads: number, candidates: readonly Choice[]): Choice | undefined {
  try {
    const kept = JSON.parse(localStorage.getItem(keyOf(digest, threads)) ?? "null");
    if (kept?.browser !== navigator.userAgent) return undefined;
    return candidates.find(({ engine, variant }) => engine === kept.engine && variant.name === kept.variant);
  } catch {
    return undefined; // no storage, or not ours
  }
}

function remember(digest: string, threads: number, choice: Choice): void {
  try {
    const kept = { engine: choice.engine, variant: choice.variant.name, browser: navigator.userAgent };
    localStorage.setItem(keyOf(digest, threads), JSON.stringify(kept));
  } catch {
    // A page without storage measures again.
  }
}
