/** From the pixels of a picture to the numbers of an input: aspect ratio, filter and scaling, as in Python. */
import { UsageError } from "./errors.js";
import type { Preprocess } from "./preprocess.js";
import { type Box, f32, floor, max, min, type Pixels, resample, rint, trunc } from "./resample.js";

/** Pixels of a side. */
const MAX_LENGTH = 4_000_000;
/** Pixels of a picture that grows while it is resized. */
const MAX_GROWN = 89_478_485;

/** Refuse more than `most` pixels: `UsageError` `image-too-large`. */
export function checkPixels(width: number, height: number, most: number): void {
  if (max(width, height) > MAX_LENGTH || width * height > most) {
    throw new UsageError(
      `the picture of ${width} x ${height} pixels is too large: the limit is ${most}`,
      "scale the picture down, or load(..., {maxPixels})",
      "image-too-large",
    );
  }
}

/** Bring a picture with the right number of channels to the size of the input. */
export function sized(picture: Pixels, form: Preprocess): Pixels {
  const { width, height, resample: name } = form;
  if (form.resize === "squash") return resample(picture, width, height, name);
  if (form.resize === "pad") return padded(picture, form);
  if (form.resize === "fit") return resample(picture, width, height, name, fitBox(picture, form));
  if (form.cropFraction === 1) return resample(picture, width, height, name, cropBox(picture, form));
  const cover = [width, height].map((side) => rint(side / form.cropFraction)) as [number, number];
  const scale = max(cover[0] / picture.width, cover[1] / picture.height);
  const grown = [max(cover[0], rint(picture.width * scale)), max(cover[1], rint(picture.height * scale))] as const;
  checkPixels(grown[0], grown[1], MAX_GROWN);
  const [left, top] = [(grown[0] - width) >> 1, (grown[1] - height) >> 1];
  return resample(picture, grown[0], grown[1], name, undefined, [left, top, left + width, top + height]);
}

/** `tf.image.resize_with_pad`, in float32. */
function padded(picture: Pixels, form: Preprocess): Pixels {
  const [old, room] = [[picture.width, picture.height], [form.width, form.height]];
  const ratio = max(...old.map((side, i) => f32(f32(side) / f32(room[i]!))));
  const exact = old.map((side) => f32(f32(side) / ratio));
  const [width, height] = exact.map((side, i) => max(1, min(room[i]!, floor(side)))) as [number, number];
  const [left, top] = exact.map((side, i) => max(0, floor(f32(f32(room[i]!) - side) / 2))) as [number, number];
  const inner = resample(picture, width, height, form.resample);
  const { channels } = inner;
  const data = new (inner.data.constructor as Uint8ArrayConstructor)(form.width * form.height * channels);
  const color = form.padColor ?? [0];
  for (let i = 0; i < data.length; i++) data[i] = color[color.length === 1 ? 0 : i % channels]!;
  for (let y = 0; y < height; y++) {
    const row = inner.data.subarray(y * width * channels, (y + 1) * width * channels);
    data.set(row as Uint8Array, ((top + y) * form.width + left) * channels);
  }
  return { data, width: form.width, height: form.height, channels };
}

/** The box of Keras' `smart_resize`, which divides in float32 and drops fractions of pixels. */
function cropBox(old: Pixels, form: Preprocess): Box {
  const cut = (side: number, other: number, mine: number, theirs: number) =>
    max(min(side, trunc(f32(f32(other * mine) / f32(theirs)))), 1);
  const height = cut(old.height, old.width, form.height, form.width);
  const width = cut(old.width, old.height, form.width, form.height);
  const [left, top] = [(old.width - width) >> 1, (old.height - height) >> 1];
  return [left, top, left + width, top + height];
}

/** The box of Pillow's `ImageOps.fit`. */
function fitBox(old: Pixels, form: Preprocess): Box {
  const [ratio, wanted] = [old.width / old.height, form.width / form.height];
  let { width, height } = old as { width: number; height: number };
  if (ratio > wanted) width = wanted * height;
  else if (ratio < wanted) height = width / wanted;
  const [left, top] = [(old.width - width) * 0.5, (old.height - height) * 0.5];
  return [left, top, left + width, top + height];
}

/** Pixels as uint8: clipped to 0..255 and rounded, halves to the even number. */
export function rounded(pixels: Pixels): Uint8Array {
  const { data } = pixels;
  if (data instanceof Float32Array) return Uint8Array.from(data, (value) => min(255, max(0, rint(value))));
  return new Uint8Array(data.buffer, data.byteOffset, data.length);
}

const TORCH = { scale: 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const CAFFE = [103.939, 116.779, 123.68];

/** Scale pixels in float32, with the operations of `Preprocess.normalize` in their order. */
export function normalized(pixels: Pixels, form: Preprocess): Float32Array {
  const { channels, data } = pixels;
  const flip = form.mode === "caffe" || form.scaling?.order === "bgr";
  const result = new Float32Array(data.length);
  for (let c = 0; c < channels; c++) {
    const scale = scaleOf(form, c);
    const source = flip ? channels - 1 - c : c;
    const table = data instanceof Float32Array ? null : Float32Array.from({ length: 256 }, (_, value) => scale(value));
    for (let i = 0; i < data.length; i += channels) {
      result[i + c] = table === null ? scale(data[i + source]!) : table[data[i + source]!]!;
    }
  }
  return result;
}

/** The scaling of channel `c` of the input. */
function scaleOf(form: Preprocess, c: number): (value: number) => number {
  if (form.scaling !== null) {
    const [scale, mean, std] = [form.scaling.scale, form.scaling.mean[c]!, form.scaling.std[c]!].map(f32) as [number, number, number];
    return (value) => f32(f32(f32(value * scale) - mean) / std);
  }
  if (form.mode === "tf") return (value) => f32(f32(value / 127.5) - 1);
  if (form.mode === "torch") {
    const [mean, std] = [f32(TORCH.mean[c]!), f32(TORCH.std[c]!)];
    return (value) => f32(f32(f32(value / TORCH.scale) - mean) / std);
  }
  const mean = f32(CAFFE[c]!);
  return form.mode === "caffe" ? (value) => f32(value - mean) : (value) => value;
}
