/** What a model reads: a picture brought to size and scaled, or an array of numbers. Rules: docs/bundle-format.md. */
import { Float, wrongValue, type Json, type JsonObject, type Reader } from "./json.js";
import { abs, min } from "./resample.js";

export const RESAMPLES = [
  "nearest", "bilinear", "bilinear-antialias", "bicubic", "bicubic-antialias", "lanczos", "lanczos-antialias", "area",
] as const;
export type Resample = (typeof RESAMPLES)[number];
/** The filters whose results have fractions, as those of `tf.image.resize`. */
export const FRACTIONAL: readonly Resample[] = ["bilinear", "bicubic", "lanczos", "area"];
const RESIZES = ["squash", "crop", "fit", "pad"] as const;
const MODES = ["tf", "caffe", "torch", "none", "custom"] as const;
const BACKGROUNDS = ["drop", "white", "black"] as const;
const CROP_FRACTION = 0.875;
const MAX_SIDE = 4096;
const LARGEST = 1e6;

export interface Scaling {
  readonly scale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly order: "rgb" | "bgr";
}

/** How pictures become input: see `Preprocess` and `Sizing` of the Python runtime. */
export interface Preprocess {
  readonly kind: "picture";
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  readonly mode: (typeof MODES)[number];
  readonly resize: (typeof RESIZES)[number];
  readonly resample: Resample;
  readonly cropFraction: number;
  readonly padColor: readonly number[] | null;
  readonly background: (typeof BACKGROUNDS)[number];
  readonly scaling: Scaling | null;
  /** Whether a reader of manifest schemas 1 and 2 would not know it. */
  readonly isNew: boolean;
}

export interface ArrayInput {
  readonly kind: "array";
  readonly shape: readonly number[];
}

export type Form = Preprocess | ArrayInput;

/** Refuse a key of `preprocess`; docs/reference/bundle-format.md has the rules. */
function need(right: boolean, key: string): void {
  if (!right) throw wrongValue(`the key ${key} of preprocess`);
}

/** The shape of one sample as the network reads it. */
export function shapeOf(form: Form): readonly number[] {
  return form.kind === "picture" ? [form.height, form.width, form.channels] : form.shape;
}

/** Read the key `preprocess` of a manifest; `BundleError` `manifest-value`. */
export const form: Reader<Form> = (value) => {
  need(value instanceof Map, "itself");
  const given = value as JsonObject;
  return given.has("shape") ? arrayFrom(given) : pictureFrom(given);
};

/** Refuse other keys than `needed`, and at most `optional`. */
function checkKeys(given: JsonObject, needed: readonly string[], optional: readonly string[] = []): void {
  for (const key of needed) need(given.has(key), key);
  for (const key of given.keys()) need(needed.includes(key) || optional.includes(key), key);
}

function arrayFrom(given: JsonObject): ArrayInput {
  checkKeys(given, ["shape", "range"]);
  const shape = numbers(given.get("shape"), true);
  need(shape.length <= 8 && shape.every((side) => side >= 1) && shape.reduce((a, b) => a * b, 1) <= 2 ** 26, "shape");
  const range = given.get("range") === null ? [0, 0] : numbers(given.get("range"));
  need(range.length === 2 && range[0]! <= range[1]!, "range");
  return { kind: "array", shape };
}

/** The numbers of a list, NaN in place of anything else. */
function numbers(value: Json | undefined, whole = false): number[] {
  return Array.isArray(value) ? value.map((item) => (whole && item instanceof Float ? NaN : numberOf(item))) : [NaN];
}

/** A JSON number, NaN for anything else, also for a whole number that a double cannot tell from its neighbors. */
function numberOf(value: Json | undefined): number {
  return value instanceof Float ? value.value : typeof value === "number" && abs(value) < 2 ** 53 ? value : NaN;
}

function pictureFrom(given: JsonObject): Preprocess {
  const isCustom = given.get("mode") === "custom";
  checkKeys(
    given, ["height", "width", "channels", "mode", "resize", ...(isCustom ? ["scaling"] : [])],
    ["resample", "crop_fraction", "pad_color", "background"],
  );
  const choice = <T extends string>(key: string, choices: readonly T[], usual?: T): T => {
    const value = given.has(key) ? (given.get(key) as T) : usual!;
    need(choices.includes(value), key);
    return value;
  };
  const side = (key: string, most: number): number => {
    const value = given.get(key) as number;
    need(typeof value === "number" && value >= 1 && value <= most, key);
    return value;
  };
  const [height, width, channels] = [side("height", MAX_SIDE), side("width", MAX_SIDE), side("channels", 3) as 1 | 3];
  const mode = choice("mode", MODES);
  const resize = choice("resize", RESIZES);
  const resample = choice("resample", RESAMPLES, "bilinear-antialias");
  const background = choice("background", BACKGROUNDS, "drop");
  const cropFraction = given.has("crop_fraction") ? numberOf(given.get("crop_fraction")) : CROP_FRACTION;
  const padColor = given.has("pad_color") ? numbers(given.get("pad_color"), true) : null;
  const scaling = isCustom ? scalingFrom(given.get("scaling")!) : null;
  need(channels === 3 || (channels === 1 && mode !== "caffe" && mode !== "torch"), "channels");
  need(resize !== "fit" || !FRACTIONAL.includes(resample), "resample");
  need(cropFraction >= 0.1 && cropFraction <= 1 && (resize === "crop" || cropFraction === CROP_FRACTION), "crop_fraction");
  const isColor = padColor === null || (padColor.every((value) => value >= 0 && value <= 255) && [1, channels].includes(padColor.length));
  need(isColor && (padColor === null || resize === "pad"), "pad_color");
  need(scaling === null || scaling.mean.length === channels, "scaling");
  const isNew =
    resize === "fit" || resize === "pad" || resample !== "bilinear-antialias" || cropFraction !== CROP_FRACTION ||
    padColor !== null || background !== "drop";
  return { kind: "picture", height, width, channels, mode, resize, resample, cropFraction, padColor, background, scaling, isNew };
}

function scalingFrom(value: Json): Scaling {
  const given = value instanceof Map ? value : new Map();
  checkKeys(given, ["mean", "order", "scale", "std"]);
  const [scale, mean, std, order] = [numberOf(given.get("scale")), numbers(given.get("mean")), numbers(given.get("std")), given.get("order") as "rgb" | "bgr"];
  need([scale, ...mean, ...std].every((each) => abs(each) <= LARGEST) && min(scale, ...std) >= 1 / LARGEST, "scaling");
  need(mean.length === std.length && [1, 3].includes(mean.length), "scaling");
  need(order === "rgb" || (order === "bgr" && mean.length === 3), "order");
  return { scale, mean, std, order };
}
