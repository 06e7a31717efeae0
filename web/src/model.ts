/** `load` a bundle, get a `Model`, ask it about pictures. */
import { argmax, pictureFrom, readingFrom, spread, topPredictions, type OutputPicture, type Prediction, type Reading } from "./answers.js";
import { EngineError, UsageError, VerificationError } from "./errors.js";
import type { EngineName, Session, Values } from "./engines.js";
import { arrayFromNpy, readEntry, type NpyArray, type Source } from "./files.js";
import { BundleError } from "./errors.js";
import { canBe, fits, TASKS, type Input, type Manifest, type Output, type TaskName, type TensorSpec, type Variant } from "./manifest.js";
import { pixelsOf, type Picture } from "./picture.js";
import { shapeOf } from "./preprocess.js";
import type { Pixels } from "./resample.js";
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

/** A loaded bundle. Calls may overlap. */
export class Model {
  /** Milliseconds of the last inference, without decoding and resizing. */
  lastMilliseconds = 0;
  private closed = false;

  constructor(
    readonly manifest: Manifest,
    readonly variant: Variant,
    readonly labels: readonly string[],
    /** SHA-256 of manifest.json, which holds the hash of every other file. */
    readonly digest: string,
    /** The version that the bundle was signed as; null where no key was given. */
    readonly version: bigint | null,
    readonly session: Session,
    private readonly source: Source,
    private readonly maxPixels: number,
  ) {
    checkSignature(manifest, variant, session);
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
        `a sample of this model has the inputs ${names.join(", ")}, and it holds ${given.slice(0, 8).join(", ") || "nothing"}`,
        `give {${names.map((name) => `"${name}": ...`).join(", ")}}`,
        "wrong-inputs",
      );
    }
    const parts = sample as Readonly<Record<string, Picture | Numbers>>;
    return Promise.all(inputs.map((input, i) => this.feed(input, i, parts[input.name]!)));
  }

  /** Run the golden pairs. `VerificationError` `golden-mismatch` if this browser computes other outputs. */
  async verify(): Promise<SelfTest> {
    this.checkOpen();
    return runGolden(this, this.source);
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

  /** The input of one sample: pixels as they are for uint8, else scaled. */
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
      throw new UsageError(`${manifest.name} is a bundle for ${own}, not for ${task}`, `call ${TASKS[own].instead}`, "wrong-task");
    }
    this.checkOpen();
    return (await this.infer(await this.feeds(sample)))[0]!;
  }

  private checkOpen(): void {
    if (this.closed) throw new UsageError(`${this.manifest.name} is closed`, "load the bundle again", "closed");
  }

  private checked(output: Output, raw: readonly (Float32Array | BigInt64Array)[], index: number): OutputValues {
    const at = outputIndex(this.session, output.name, index);
    let data = raw[at] as Float32Array;
    let shape = this.session.outputs[at]!.shape.slice(1).map((side) => side ?? 0);
    if (isTopK(this.session)) {
      data = spread(data, raw[1] as BigInt64Array, output.classes);
      shape = [data.length];
    }
    // One free side can be told from the number of values.
    if (shape.filter((side) => side === 0).length === 1) {
      const known = shape.reduce((a, b) => a * (b || 1), 1);
      shape = shape.map((side) => side || data.length / known);
    }
    const right = data instanceof Float32Array && shape.reduce((a, b) => a * b, 1) === data.length;
    if (!right || !fits(output.task, shape, output.classes) || !data.every(Number.isFinite)) {
      throw new EngineError(
        `${this.engine} returned ${output.name} of shape ${shape.join(" x ")}, or values that are no numbers, for the task ${output.task}`,
        "run the self-test: model.verify()",
        "engine-output",
      );
    }
    return { data, shape };
  }
}

function isTopK(session: Session): boolean {
  return session.outputs.length === 2 && session.outputs[1]!.dtype === "int64";
}

/** Outputs are found by their name, and in a file that has other names by their place. */
function outputIndex(session: Session, name: string, index: number): number {
  const found = session.outputs.findIndex((output) => output.name === name);
  return found >= 0 ? found : index;
}

/** Compare the model file with the manifest: `BundleError` `bundle-signature`. */
function checkSignature(manifest: Manifest, variant: Variant, { inputs, outputs }: Session): void {
  const wrong = () => {
    const told = (tensors: readonly TensorSpec[]) =>
      tensors.map(({ name, dtype, shape }) => `${name} ${dtype} (${shape.map((side) => side ?? "any").join(", ")})`).join(", ");
    return new BundleError(
      `${variant.model} maps ${told(inputs)} to ${told(outputs)}, and the manifest says otherwise`, "export the bundle again", "bundle-signature",
    );
  };
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
    throw new UsageError("an input is not an array of finite numbers", `give numbers of shape (${shape.join(", ")})`, "array-values");
  }
  const count = shape.reduce((a, b) => a * b, 1);
  if (flat.length !== count) {
    throw new UsageError(`an array has ${flat.length} numbers, and the model reads (${shape.join(", ")})`, "give one sample", "array-shape");
  }
  return Float32Array.from(flat as ArrayLike<number>);
}

async function golden(source: Source, manifest: Manifest, path: string): Promise<NpyArray> {
  return arrayFromNpy(await readEntry(source, manifest.files.find((entry) => entry.path === path)!), path);
}

async function runGolden(model: Model, source: Source): Promise<SelfTest> {
  const { manifest, variant } = model;
  const number = manifest.variants.indexOf(variant);
  const inputs = await Promise.all(manifest.inputs.map((input) => golden(source, manifest, input.golden)));
  const expected = await Promise.all(manifest.outputs.map((output) => golden(source, manifest, output.golden[number]!)));
  const count = inputs[0]!.shape[0] ?? 0;
  const inputsFit = inputs.every(({ data, shape }, i) => {
    const { form } = manifest.inputs[i]!;
    const type = form.kind === "picture" ? data instanceof Uint8Array : data instanceof Float32Array && data.every(Number.isFinite);
    return type && count > 0 && String(shape) === String([count, ...shapeOf(form)]);
  });
  const outputsFit = expected.every(({ data, shape }, i) => {
    const { task, classes } = manifest.outputs[i]!;
    return data instanceof Float32Array && shape[0] === count && fits(task, shape.slice(1), classes) && data.every(Number.isFinite);
  });
  if (!inputsFit || !outputsFit) {
    throw new BundleError(`the golden pairs of variant ${variant.name} do not fit the manifest`, "export the bundle again", "golden-invalid");
  }
  const judges = manifest.outputs.map((output, i) => new Judge(output, expected[i]!, count));
  for (let n = 0; n < count; n++) {
    const feeds = inputs.map(({ data, shape }, i) => {
      const size = data.length / count;
      const [height, width, channels] = shape.slice(1) as [number, number, number];
      return model.scaled(i, { data: data.slice(n * size, (n + 1) * size), height, width, channels });
    });
    const outputs = await model.infer(feeds);
    judges.forEach((judge, i) => judge.add(n, outputs[i]!, isTopK(model.session) ? (model.session.outputs[0]!.shape[1] ?? null) : null));
  }
  for (const judge of judges) judge.check(variant, model.engine);
  const { maxAbs, kept } = judges[0]!;
  const { task, tolerance } = manifest.outputs[0]!;
  return {
    variant: variant.name, engine: model.engine, images: count, maxAbs, tolerance,
    agreement: task === "classification" ? kept / count : null,
  };
}

/** The largest error of one output over the golden pairs. */
class Judge {
  maxAbs = 0;
  kept = 0;
  private shape = "";

  constructor(
    private readonly output: Output,
    private readonly expected: NpyArray,
    private readonly count: number,
  ) {}

  /** Compare one sample. Of a top-k model, classes that are not listed may have any value up to the least listed one. */
  add(n: number, { data, shape }: OutputValues, listed: number | null): void {
    const wanted = this.expected.shape.slice(1);
    if (String(shape) !== String(wanted)) {
      this.shape ||= `${this.output.name} is (${shape.join(", ")}), expected (${wanted.join(", ")})`;
      return;
    }
    const least = listed === null ? -Infinity : Float32Array.from(data).sort()[Math.max(0, data.length - listed)]!;
    const start = n * data.length;
    for (let i = 0; i < data.length; i++) {
      const right = this.expected.data[start + i]!;
      const value = data[i]! < least ? Math.min(right, least) : data[i]!;
      this.maxAbs = Math.max(this.maxAbs, Math.abs(value - right));
    }
    this.kept += Number(argmax(data, 0, data.length) === argmax(this.expected.data, start, data.length));
  }

  check(variant: Variant, engine: EngineName): void {
    const { name, task, tolerance } = this.output;
    if (!this.shape && this.maxAbs <= tolerance) return;
    const agrees = task === "classification" ? `; ${this.kept} of ${this.count} images keep their class` : "";
    const why = this.shape || `the largest error of ${name} is ${this.maxAbs.toPrecision(3)}, allowed is ${tolerance.toPrecision(3)}${agrees}`;
    throw new VerificationError(
      `this browser does not compute the exported model's outputs (variant ${variant.name}, ${engine}): ${why}`,
      "choose another engine: load(..., {engine})",
      "golden-mismatch",
    );
  }
}
