/** manifest.json, read with the rules and codes of xxdeploy/runtime/bundle/manifest.py; docs/bundle-format.md. */
import { AGAIN, BundleError, quoted } from "./errors.js";
import { int, list, number, object, orNull, parse, record, text, wrongValue, type Json, type Reader } from "./json.js";
import { form, shapeOf, type Form } from "./preprocess.js";

export const MANIFEST = "manifest.json";
const NHWC = "NHWC";
const SCHEMAS = [1, 2, 3, 4, 5];
const MAX_FILES = 256;
const MAX_TENSORS = 64;
const MAX_FILE_SIZE = 2 ** 40;

/**
 * For each task the lowest schema that may name it; the smallest and the largest number of classes; whether there may
 * be none; the axes of the output without the batch (0: any number).
 */
const TASKS = {
  classification: [1, 1, 1e6, false, 1],
  features: [1, 0, 0, true, 0],
  image: [4, 2, 256, true, 3],
  values: [4, 0, 0, true, 0],
  sequence: [4, 2, 1e6, false, 2],
} as const;
export type TaskName = keyof typeof TASKS;

/** Whether `shape`, without the batch axis, can be the output of a task. */
export function fits(task: TaskName, shape: readonly number[], classes: number): boolean {
  const axes = TASKS[task][4];
  if (axes ? shape.length !== axes : !shape.length) return false;
  const last = shape[shape.length - 1]!;
  if (task === "image") return (classes === 2 ? [2, 1] : classes ? [classes] : [1, 3]).includes(last);
  return !classes || last === classes;
}

export interface FileEntry {
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
}

/** An input or output of a model file; `null` in a shape is a free side. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly (number | null)[];
  /** `NHWC` for an input that is a picture. */
  readonly layout?: string | null;
}

export interface Variant {
  readonly name: string;
  readonly model: string;
  readonly precision: string;
  readonly scheme: string;
  readonly golden: string;
  readonly requires: readonly string[];
  /** Absent in schemas 1 to 4, which do not say them: the engine then does. */
  readonly inputs?: readonly TensorSpec[];
  readonly outputs?: readonly TensorSpec[];
}

export interface Output {
  readonly name: string;
  readonly task: TaskName;
  readonly classes: number;
  /** A path of expected values for each variant, in their order. */
  readonly golden: readonly string[];
  readonly tolerance: number;
}

export interface Input {
  readonly name: string;
  readonly form: Form;
  readonly golden: string;
}

export interface Manifest {
  readonly schema: number;
  readonly name: string;
  /** All inputs and outputs in the order of the graph; the first output is the one to predict with. */
  readonly inputs: readonly Input[];
  readonly outputs: readonly Output[];
  readonly labels: string | null;
  readonly variants: readonly Variant[];
  readonly files: readonly FileEntry[];
  readonly outputRange: readonly number[] | null;
  readonly blank: number | null;
}

function must(right: boolean, problem: string): void {
  if (!right) throw wrongValue(problem);
}

function one(words: readonly string[]): Reader<string> {
  return (value, where) => {
    must(words.includes(value as string), `${where} must be one of ${words}`);
    return value as string;
  };
}

const word: Reader<string> = (value, where) => {
  const given = text(value, where);
  must(/^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/.test(given), `${where} cannot be ${quoted(given)}`);
  return given;
};

const path: Reader<string> = (value, where) => {
  const given = text(value, where);
  const parts = given.split("/");
  const right = given.length <= 200 && parts.length <= 8 && parts.every((part) => /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(part));
  if (right && ![MANIFEST, "manifest.sig"].includes(given.toLowerCase())) return given;
  throw new BundleError(
    `a bundle may not have the path ${quoted(given)}`,
    AGAIN,
    "manifest-path",
  );
};

const nonempty: Reader<string> = (value, where) => {
  const given = text(value, where);
  must(!!given, `${where} must not be empty`);
  return given;
};

const tolerance: Reader<number> = (value, where) => {
  const given = number(value, where);
  must(given > 0, `${where} must be positive`);
  return given;
};

const task: Reader<TaskName> = (value, where) => one(Object.keys(TASKS))(value, where) as TaskName;

function checkClasses({ task, classes }: { task: TaskName; classes: number }): void {
  const [, least, most, none] = TASKS[task];
  must(classes ? classes >= least && classes <= most : none, `${classes} classes with the task ${task}`);
}

const file = record<FileEntry>({ path, sha256: text, size: int }, ({ path: name, sha256, size }) => {
  must(/^[0-9a-f]{64}$/.test(sha256), `the sha256 of ${name}`);
  must(size >= 0 && size <= MAX_FILE_SIZE, `the size of ${name}`);
});

const sides: Reader<TensorSpec["shape"]> = (value, where) => {
  const shape = list(orNull(int))(value, where);
  must(shape.length >= 1 && shape.length <= 9 && shape.every((side) => side === null || (side >= 1 && side < 2 ** 31)), `${where} [${shape}]`);
  return shape;
};
const input = record<TensorSpec>(
  { name: nonempty, dtype: one(["uint8", "float32"]), shape: sides, layout: orNull(one([NHWC])) },
  ({ name, dtype, layout }) => must(dtype !== "uint8" || layout === NHWC, `the input ${name} is uint8 without a layout`),
);
const output = record<TensorSpec>({ name: nonempty, dtype: one(["float32", "int8", "uint8", "int64"]), shape: sides });
const plainVariant = {
  name: word, model: path, precision: one(["fp32", "fp16", "int8"]), scheme: word, golden: path, requires: list(word),
};
const variants: Reader<Variant[]> = list(record<Variant>(plainVariant));
const typedVariants: Reader<Variant[]> = list(
  record<Variant>({ ...plainVariant, inputs: list(input), outputs: list(output) }),
);

const moreOutputs = list(record<Output>({ name: word, task, classes: int, golden: list(path), tolerance }, checkClasses));
const moreInputs = list(record({ name: word, preprocess: form, golden: path }));

const FIRST = {
  schema: int, name: word, task, input_name: nonempty, output_name: nonempty, preprocess: form, classes: int, labels: orNull(path),
  variants, golden: record({ inputs: path, tolerance }), files: list(file),
  tools: (value: Json, where: string) => {
    for (const item of object(value, where).values()) text(item, where);
  },
  source: object, evidence: object, // for people
};
const FOURTH = { ...FIRST, more_outputs: moreOutputs, output_range: orNull(list(number)), blank: orNull(int), more_inputs: moreInputs };
const MANIFESTS = [FIRST, { ...FIRST, more_outputs: moreOutputs }, { ...FIRST, more_outputs: moreOutputs }, FOURTH, { ...FOURTH, variants: typedVariants }];

/** Each key as its reader returns it. */
type Top = { [K in keyof typeof FIRST]: ReturnType<(typeof FIRST)[K]> } & Partial<{ [K in keyof typeof FOURTH]: ReturnType<(typeof FOURTH)[K]> }>;

/**
 * Read a manifest. `BundleError`: `manifest-json`, `manifest-too-large`, `manifest-text`, `unknown-schema`,
 * `manifest-keys`, `manifest-value`, `manifest-path`, `manifest-duplicate`, `manifest-unlisted`.
 */
export function manifestFrom(bytes: Uint8Array): Manifest {
  const document = parse(bytes);
  const schema = object(document, "the manifest").get("schema") as number;
  if (!SCHEMAS.includes(schema)) {
    throw new BundleError(
      `the bundle has schema ${quoted(String(schema))}; this xxdeploy-web reads ${SCHEMAS}`,
      "update xxdeploy-web",
      "unknown-schema",
    );
  }
  const top = record(MANIFESTS[schema - 1] as typeof FIRST)(document, "the manifest") as Top;
  const { name, classes, labels, files, golden } = top;
  const [outputRange, blank] = [top.output_range ?? null, top.blank ?? null];
  const outputs: Output[] = [
    { name: top.output_name, task: top.task, classes, golden: top.variants.map((each) => each.golden), tolerance: golden.tolerance },
    ...(top.more_outputs ?? []),
  ];
  const inputs: Input[] = [
    { name: top.input_name, form: top.preprocess, golden: golden.inputs },
    ...(top.more_inputs ?? []).map((more) => ({ name: more.name, form: more.preprocess, golden: more.golden })),
  ];
  const manifest = { schema, name, inputs, outputs, labels, variants: top.variants, files, outputRange, blank };
  checkWhole(manifest);
  checkListed(manifest);
  return manifest;
}

function checkWhole({ schema, inputs, outputs, labels, variants, files, outputRange, blank }: Manifest): void {
  const [{ task, classes }, first] = [outputs[0]!, inputs[0]!.form];
  checkClasses(outputs[0]!);
  must((task === "image" && !classes) === (outputRange !== null), `output_range with the task ${task}`);
  must(!outputRange || (outputRange.length === 2 && outputRange[0]! < outputRange[1]!), "output_range");
  must((task === "sequence") === (blank !== null), `blank with the task ${task}`);
  must(blank === null || (blank >= 0 && blank < classes), `blank ${blank}`);
  must(blank === null || labels !== null, "a sequence without labels");
  must(labels === null || classes > 0, "labels without classes");
  must(variants.length > 0, "no variant");
  must(files.length <= MAX_FILES, `${files.length} files`);
  const isPicture = inputs.length === 1 && first.kind === "picture";
  const lowest = Math.max(
    isPicture ? (first.isNew ? 3 : 1) : 4, outputs.length > 1 ? 2 : 1, ...outputs.map((output) => TASKS[output.task][0]),
  );
  must(
    (schema === 5 || schema === lowest) && Math.max(outputs.length, inputs.length) <= MAX_TENSORS,
    `schema ${schema} with ${inputs.length} inputs, ${outputs.length} outputs and the task ${task}`,
  );
  for (const variant of variants) checkTensors(variant, inputs, outputs);
  for (const { golden, name } of outputs) must(golden.length === variants.length, `the golden files of ${name}`);
  must(distinct(inputs.map(({ name }) => name)) === undefined, "two inputs have one name");
  for (const [kind, names] of [
    ["input or output", [...inputs, ...outputs].map(({ name }) => name)],
    ["variant", variants.map(({ name }) => name)],
    ["file", files.map((entry) => entry.path)],
  ] as const) {
    const twice = distinct(names);
    if (twice !== undefined) throw duplicate(`two entries for the ${kind} ${twice}`);
  }
}

/** The inputs and outputs of a variant are those of the manifest; a top-k model has an output of classes more. */
function checkTensors(variant: Variant, inputs: readonly Input[], outputs: readonly Output[]): void {
  if (!variant.inputs || !variant.outputs) return;
  const same =
    variant.inputs.length === inputs.length && inputs.every(({ name }, i) => name === variant.inputs![i]!.name) &&
    outputs.every(({ name }, i) => name === variant.outputs![i]?.name);
  must(same, `the inputs or outputs of the variant ${variant.name}`);
  variant.inputs.forEach(({ name, layout, shape }, i) => {
    const { form } = inputs[i]!;
    must((form.kind === "picture") === (layout === NHWC) && canBe(shape.slice(1), shapeOf(form)), `the input ${name} does not fit its preprocessing`);
  });
}

/** Whether two shapes can be of one tensor: a side of null is free. */
export function canBe(shape: readonly (number | null)[], other: readonly (number | null)[]): boolean {
  return shape.length === other.length && shape.every((side, i) => side === other[i] || side === null || other[i] === null);
}

function checkListed({ inputs, outputs, variants, labels, files }: Manifest): void {
  const folded = new Set(files.map((entry) => entry.path.toLowerCase()));
  for (const each of folded) {
    for (let end = each.lastIndexOf("/"); end > 0; end = each.lastIndexOf("/", end - 1)) {
      if (folded.has(each.slice(0, end))) throw duplicate(`a file where ${each} needs a folder`);
    }
  }
  const listed = new Set(files.map((entry) => entry.path));
  const named = [...inputs.map(({ golden }) => golden), ...variants.flatMap(({ model, golden }) => [model, golden]), ...outputs.flatMap(({ golden }) => golden)];
  for (const each of labels === null ? named : [...named, labels]) {
    if (!listed.has(each)) {
      throw new BundleError(`the manifest does not list the hash of ${each}`, AGAIN, "manifest-unlisted");
    }
  }
}

function duplicate(problem: string): BundleError {
  return new BundleError(`the manifest has ${problem}`, AGAIN, "manifest-duplicate");
}

/** Return a name that another one equals except for case. Upper and then lower case come close to Python's casefold. */
function distinct(names: readonly string[]): string | undefined {
  const folded = names.map((name) => name.toUpperCase().toLowerCase());
  return names.find((_, i) => folded.indexOf(folded[i]!) !== i);
}
