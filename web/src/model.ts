/** `load` a bundle, get a `Model`, ask it about pictures. */
import { argmax, pictureFrom, readingFrom, spread, topPredictions, type OutputPicture, type Prediction, type Reading } from "./answers.js";
import { AGAIN, BundleError, EngineError, UsageError, VerificationError } from "./errors.js";
import { OTHER, type EngineName, type Session, type Values } from "./engines.js";
import { arrayFromNpy, readEntry, type NpyArray, type Source } from "./files.js";
import { canBe, fits, type Input, type Manifest, type Output, type TaskName, type TensorSpec, type Variant } from "./manifest.js";
import { pixelsOf, type Picture } from "./picture.js";
import { shapeOf } from "./preprocess.js";
import { abs, max, min, type Pixels } from "./resample.js";
import { normalized, rounded, sized } from "./sizing.js";

/** Numbers of an input that is no picture, in C order. */
export type Numbers = Float32Array | readonly number[];
/** A picture or numbers; for a model of several inputs one of these for each, by the names of the inputs. */
export type Sample = Picture | Numbers | Readonly<Record<string, unknown>>;

export interface OutputValues {
  readonly data: Float32Array;
  /** Without the batch axis. */
  readonly shape: readonly number[];
}

export interface SelfTest {
  readonly variant: string;
  readonly engine: EngineName;
  readonly images: number;
  readonly maxAbs: number;
  readonly tolerance: number;
  /** Share of images that keep their class; null for other tasks. */
  readonly agreement: number | null;
}

/** The method to call for a task. */
const METHODS = { classification: "predict() or probabilities()", features: "features()", values: "values()", image: "image()", sequence: "read()" };

/** What a model is made of. */
export interface Parts {
  readonly manifest: Manifest;
  readonly variant: Variant;
  readonly labels: readonly string[];
  /** SHA-256 of manifest.json, which holds the hash of every other file. */
  readonly digest: string;
  /** The version that the bundle was signed as; null where no key was given. */
  readonly version: bigint | null;
  readonly session: Session;
  readonly source: Source;
  readonly maxPixels: number;
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- the constructor assigns them
export interface Model extends Parts {}

/** A loaded bundle. Calls may overlap. */
export class Model {
  /** Milliseconds of the last inference, without decoding and resizing. */
  lastMilliseconds = 0;
  private closed = false;

  constructor(parts: Parts) {
    checkSignature(parts);
    Object.assign(this, parts);
  }

  get engine(): EngineName {
    return this.session.engine;
  }

  /** The `top` most probable classes, best first. `UsageError` `wrong-task`, `top-invalid`, `image-*`; `EngineError`. */
  async predict(sample: Sample, top = 5): Promise<Prediction[]> {
    if (!(Number.isInteger(top) && top >= 1)) throw new UsageError(`top must be at least 1, not ${top}`, "ask for one class or more", "top-invalid");
    return topPredictions((await this.answer(sample, "classification")).data, this.labels, top);
  }

  /** The probabilities of all classes. */
  async probabilities(sample: Sample): Promise<Float32Array> {
    return (await this.answer(sample, "classification")).data;
  }

  async features(sample: Sample): Promise<OutputValues> {
    return this.answer(sample, "features");
  }

  async values(sample: Sample): Promise<OutputValues> {
    return this.answer(sample, "values");
  }

  /** The picture, or the mask, that the model makes. */
  async image(sample: Sample): Promise<OutputPicture> {
    const { data, shape } = await this.answer(sample, "image");
    return pictureFrom(data, shape, this.manifest.outputRange);
  }

  /** The text on a picture. */
  async read(sample: Sample): Promise<Reading> {
    return readingFrom((await this.answer(sample, "sequence")).data, this.labels, this.manifest.blank!);
  }

  /** Every output by its name. */
  async run(sample: Sample): Promise<Record<string, OutputValues>> {
    const outputs = await this.infer(await this.feeds(sample));
    return Object.fromEntries(this.manifest.outputs.map((output, i) => [output.name, outputs[i]!]));
  }

  /**
   * The input of the engine for a decoded sample, after resizing and scaling: Uint8Array or Float32Array of one sample
   * for each input of the model file.
   */
  async feeds(sample: Sample): Promise<Values[]> {
    const { inputs } = this.manifest;
    if (inputs.length === 1) return [await this.feed(inputs[0]!, 0, sample)];
    const names = inputs.map((input) => input.name);
    const given = Object.keys(sample as object);
    if (names.some((name) => !given.includes(name)) || given.some((name) => !names.includes(name))) {
      throw new UsageError(
        `a sample of this model has the inputs ${names.join(", ")}, not ${given.slice(0, 8).join(", ")}`, "give an object with these names",
        "wrong-inputs",
      );
    }
    const parts = sample as Readonly<Record<string, Picture | Numbers>>;
    return Promise.all(inputs.map((input, i) => this.feed(input, i, parts[input.name]!)));
  }

  /** Run the golden pairs. `VerificationError` `golden-mismatch` if this browser computes other outputs. */
  async verify(): Promise<SelfTest> {
    this.checkOpen();
    return runGolden(this);
  }

  /** Free the engine's memory. Later calls are `UsageError` `closed`. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.session.close();
  }

  /** Run prepared inputs: the outputs of the manifest, in its order. */
  async infer(feeds: readonly Values[]): Promise<OutputValues[]> {
    this.checkOpen();
    const start = performance.now();
    const raw = await this.session.run(feeds);
    this.lastMilliseconds = performance.now() - start;
    return this.manifest.outputs.map((output, i) => this.checked(output, raw, i));
  }

  /** The input of one sample: pixels as they are for uint8, else scaled. @internal */
  scaled(index: number, pixels: Pixels): Values {
    const form = this.manifest.inputs[index]!.form;
    if (form.kind === "array") return pixels.data as Float32Array;
    return this.session.inputs[index]!.dtype === "uint8" ? rounded(pixels) : normalized(pixels, form);
  }

  private async feed(input: Input, index: number, sample: Sample): Promise<Values> {
    const { form } = input;
    if (form.kind === "array") return numbersOf(sample, form.shape);
    return this.scaled(index, sized(await pixelsOf(sample as Picture, form, this.maxPixels), form));
  }

  private async answer(sample: Sample, task: TaskName): Promise<OutputValues> {
    const { manifest } = this;
    const own = manifest.outputs[0]!.task;
    if (own !== task) {
      throw new UsageError(`${manifest.name} is a bundle for ${own}, not for ${task}`, `call ${METHODS[own]}`, "wrong-task");
    }
    this.checkOpen();
    return (await this.infer(await this.feeds(sample)))[0]!;
  }

  private checkOpen(): void {
    if (this.closed) throw new UsageError(`${this.manifest.name} is closed`, "load the bundle again", "closed");
  }

  private checked(output: Output, raw: readonly (Float32Array | BigInt64Array)[], index: number): OutputValues {
    const { outputs } = this.session;
    const named = outputs.findIndex(({ name }) => name === output.name);
    const at = named < 0 ? index : named; // in a file that has other names, outputs are found by their place
    let data = raw[at] as Float32Array;
    let shape = outputs[at]!.shape.slice(1);
    if (isTopK(this.session)) {
      data = spread(data, raw[1] as BigInt64Array, output.classes);
      shape = [data.length];
    }
    const free = data.length / shape.reduce<number>((a, b) => a * (b ?? 1), 1); // one free side is told by the number of values
    const sides = shape.map((side) => side ?? free);
    const right = data instanceof Float32Array && sides.reduce((a, b) => a * b, 1) === data.length;
    if (!right || !fits(output.task, sides, output.classes) || !data.every(Number.isFinite)) {
      throw new EngineError(
        `${this.engine} returned ${output.name} of shape ${sides}, or values that are no numbers`,
        "run the self-test: model.verify()",
        "engine-output",
      );
    }
    return { data, shape: sides };
  }
}

function isTopK(session: Session): boolean {
  return session.outputs.length === 2 && session.outputs[1]!.dtype === "int64";
}

/** Compare the model file with the manifest: `BundleError` `bundle-signature`. */
function checkSignature({ manifest, variant, session: { inputs, outputs } }: Parts): void {
  const wrong = () => new BundleError(`${variant.model} has other inputs or outputs than the manifest says`, AGAIN, "bundle-signature");
  const equal = (a: TensorSpec["shape"], b: TensorSpec["shape"]) => String(a) === String(b);
  const same = (held: readonly TensorSpec[], listed: readonly TensorSpec[] | undefined, fit: typeof equal) =>
    !listed || (held.length === listed.length && held.every(({ name, dtype, shape }, i) =>
      name === listed[i]!.name && dtype === listed[i]!.dtype && fit(shape, listed[i]!.shape)));
  if (!same(inputs, variant.inputs, equal) || !same(outputs, variant.outputs, canBe)) throw wrong();
  const takes = inputs.length === manifest.inputs.length && inputs.every(({ dtype, shape }, i) => {
    const { form } = manifest.inputs[i]!;
    return (dtype === "float32" || (dtype === "uint8" && form.kind === "picture")) && canBe(shape.slice(1), shapeOf(form));
  });
  const isTop = outputs.length === 2 && outputs[1]!.dtype === "int64" && manifest.outputs.length === 1;
  if (!takes || outputs.length < manifest.outputs.length || !outputs.every(({ dtype }, i) => dtype === "float32" || (i === 1 && isTop))) throw wrong();
}

function numbersOf(sample: Sample, shape: readonly number[]): Float32Array {
  const flat = sample instanceof Float32Array ? sample : Array.isArray(sample) ? sample.flat(Infinity) : typeof sample === "number" ? [sample] : null;
  if (flat === null || !Array.prototype.every.call(flat, Number.isFinite)) {
    throw new UsageError("an input holds other values than finite numbers", `give numbers of shape (${shape})`, "array-values");
  }
  const count = shape.reduce((a, b) => a * b, 1);
  if (flat.length !== count) {
    throw new UsageError(`${flat.length} numbers are given, and the model reads (${shape})`, "give one sample", "array-shape");
  }
  return Float32Array.from(flat as ArrayLike<number>);
}

async function runGolden(model: Model): Promise<SelfTest> {
  const { manifest, variant, session, engine, source } = model;
  const number = manifest.variants.indexOf(variant);
  const read = async (path: string) => arrayFromNpy(await readEntry(source, manifest.files.find((entry) => entry.path === path)!), path);
  const inputs = await Promise.all(manifest.inputs.map(({ golden }) => read(golden)));
  const expected = await Promise.all(manifest.outputs.map(({ golden }) => read(golden[number]!)));
  const count = inputs[0]!.shape[0] ?? 0;
  const isRight = ({ data, shape }: NpyArray, kind: Function, fit: boolean) =>
    count > 0 && shape[0] === count && fit && data instanceof kind && data.every(Number.isFinite);
  const fit =
    inputs.every((array, i) => {
      const { form } = manifest.inputs[i]!;
      return isRight(array, form.kind === "picture" ? Uint8Array : Float32Array, String(array.shape.slice(1)) === String(shapeOf(form)));
    }) &&
    expected.every((array, i) => {
      const { task, classes } = manifest.outputs[i]!;
      return isRight(array, Float32Array, fits(task, array.shape.slice(1), classes));
    });
  if (!fit) throw new BundleError(`the golden pairs of variant ${variant.name} do not fit the manifest`, AGAIN, "golden-invalid");
  const listed = isTopK(session) ? session.outputs[0]!.shape[1]! : null;
  const largest = expected.map(() => 0);
  let kept = 0;
  for (let n = 0; n < count; n++) {
    const feeds = inputs.map(({ data, shape }, i) => {
      const size = data.length / count;
      const [, height, width, channels] = shape as [number, number, number, number];
      return model.scaled(i, { data: data.slice(n * size, (n + 1) * size), height, width, channels });
    });
    (await model.infer(feeds)).forEach(({ data, shape }, i) => {
      const wanted = expected[i]!;
      const right = (wanted.data as Float32Array).subarray(n * data.length, (n + 1) * data.length);
      const error = String(shape) === String(wanted.shape.slice(1)) ? errorOf(data, right, listed) : Infinity;
      largest[i] = max(largest[i]!, error);
      if (i === 0 && argmax(data, 0, data.length) === argmax(right, 0, right.length)) kept++;
    });
  }
  manifest.outputs.forEach(({ name, tolerance }, i) => {
    if (largest[i]! <= tolerance) return;
    throw new VerificationError(
      `this browser does not compute the exported model's outputs (variant ${variant.name}, ${engine}): ` +
        `the largest error of ${name} is ${largest[i]}, allowed is ${tolerance}`,
      OTHER,
      "golden-mismatch",
    );
  });
  const { task, tolerance } = manifest.outputs[0]!;
  const agreement = task === "classification" ? kept / count : null;
  return { variant: variant.name, engine, images: count, maxAbs: largest[0]!, tolerance, agreement };
}

/** The largest error. Of a top-k model, classes that are not listed may have any value up to the least listed one. */
function errorOf(data: Float32Array, right: Float32Array, listed: number | null): number {
  const least = listed === null ? -Infinity : Float32Array.from(data).sort()[max(0, data.length - listed)]!;
  return data.reduce((most, value, i) => max(most, abs((value < least ? min(right[i]!, least) : value) - right[i]!)), 0);
}
