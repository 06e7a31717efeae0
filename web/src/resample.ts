/**
 * Resampling by name, with the arithmetic of the Python runtime (xxdeploy/runtime/image/resample.py): Pillow's integer
 * filters for `nearest` and `*-antialias`, and `tf.image.resize` in float32 for the others.
 */
import { FRACTIONAL, type Resample } from "./preprocess.js";

/** (height, width, channels) of 0..255, in C order; Float32Array where a filter leaves fractions. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray | Float32Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** Left, top, right and bottom, in pixels. */
export type Box = readonly [number, number, number, number];

export const { abs, ceil, floor, fround: f32, max, min, trunc } = Math;

/** Round to the nearest whole number, halves to the even one. */
export function rint(value: number): number {
  const low = floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** Bring a picture, or the `box` of it, to a size; `part` is the part of the result that is wanted. */
export function resample(picture: Pixels, width: number, height: number, name: Resample, box?: Box, part?: Box): Pixels {
  const [left, top, right, bottom] = box ?? [0, 0, picture.width, picture.height];
  const wanted = part ?? [0, 0, width, height];
  if (right - left === width && bottom - top === height && Number.isInteger(left) && Number.isInteger(top)) {
    return crop(picture, left + wanted[0], top + wanted[1], left + wanted[2], top + wanted[3]);
  }
  if (FRACTIONAL.includes(name)) {
    const columns = tapsOf(name, right - left, width).slice(wanted[0], wanted[2], left);
    const rows = tapsOf(name, bottom - top, height).slice(wanted[1], wanted[3], top);
    return name === "bilinear" ? bilinear(picture, rows, columns) : separable(picture, rows, columns);
  }
  // Pillow takes the box as float32.
  const edges = [f32(left), f32(top), f32(right), f32(bottom)] as const;
  return name === "nearest" ? nearest(picture, width, height, edges, wanted) : antialiased(picture, width, height, name, edges, wanted);
}

/** Cut out whole pixels. */
export function crop(picture: Pixels, left: number, top: number, right: number, bottom: number): Pixels {
  const { width, channels } = picture;
  if (left === 0 && top === 0 && right === width && bottom === picture.height) return picture;
  const line = (right - left) * channels;
  const data = new (picture.data.constructor as Uint8ArrayConstructor)(line * (bottom - top));
  for (let y = top; y < bottom; y++) {
    const start = (y * width + left) * channels;
    data.set(picture.data.subarray(start, start + line) as Uint8Array, (y - top) * line);
  }
  return { data, width: right - left, height: bottom - top, channels };
}

/** Pillow's affine transform without interpolation: places are added up in double precision. */
function nearest(picture: Pixels, width: number, height: number, box: Box, part: Box): Pixels {
  const columns = places(f32(box[2] - box[0]) / width, box[0], width);
  const rows = places(f32(box[3] - box[1]) / height, box[1], height);
  const { data: from, channels } = picture;
  const [w, h] = [part[2] - part[0], part[3] - part[1]];
  const data = new Uint8Array(w * h * channels); // pixels outside the picture stay 0
  let to = 0;
  for (let y = part[1]; y < part[3]; y++) {
    const row = rows[y]!;
    for (let x = part[0]; x < part[2]; x++) {
      const column = columns[x]!;
      const inside = row >= 0 && row < picture.height && column >= 0 && column < picture.width;
      const start = (row * picture.width + column) * channels;
      for (let c = 0; c < channels; c++, to++) if (inside) data[to] = from[start + c]!;
    }
  }
  return { data, width: w, height: h, channels };
}

function places(step: number, start: number, count: number): Int32Array {
  const result = new Int32Array(count);
  let place = start + step * 0.5;
  for (let i = 0; i < count; i++, place += step) result[i] = place < 0 ? -1 : trunc(place);
  return result;
}

const BITS = 22;
const FILTERS: Record<string, [number, (x: number) => number]> = {
  "bilinear-antialias": [1, (x) => max(0, 1 - abs(x))],
  "bicubic-antialias": [2, cubic],
  "lanczos-antialias": [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function cubic(x: number): number {
  x = abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function sinc(x: number): number {
  if (x === 0) return 1;
  x *= Math.PI;
  return Math.sin(x) / x;
}

interface Coefficients {
  /** The first pixel and the number of pixels of each place. */
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly size: number;
  readonly weights: Int32Array;
}

/** Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`. */
function coefficients(old: number, from: number, to: number, count: number, name: string): Coefficients {
  const [radius, filter] = FILTERS[name]!;
  const scale = f32(to - from) / count;
  const wide = max(scale, 1);
  const support = radius * wide;
  const size = ceil(support) * 2 + 1;
  const result = { first: new Int32Array(count), count: new Int32Array(count), size, weights: new Int32Array(count * size) };
  const row = new Float64Array(size);
  for (let i = 0; i < count; i++) {
    const center = from + (i + 0.5) * scale;
    const low = max(0, trunc(center - support + 0.5));
    const taps = min(old, trunc(center + support + 0.5)) - low;
    let total = 0;
    for (let k = 0; k < taps; k++) total += row[k] = filter((k + low - center + 0.5) * (1 / wide));
    for (let k = 0; k < taps; k++) {
      const weight = (total !== 0 ? row[k]! / total : row[k]!) * (1 << BITS);
      result.weights[i * size + k] = trunc(weight + (weight < 0 ? -0.5 : 0.5));
    }
    result.first[i] = low;
    result.count[i] = taps;
  }
  return result;
}

/**
 * Pillow's `ImagingResample`: two passes, each rounded to bytes, over the lines and columns that are needed. Up to
 * Pillow 12 the lines come first; Pillow 13 begins with the columns where a picture loses more height than twice the
 * width that it loses.
 */
function antialiased(picture: Pixels, width: number, height: number, name: string, box: Box, part: Box): Pixels {
  const columns = coefficients(picture.width, box[0], box[2], width, name);
  const rows = coefficients(picture.height, box[1], box[3], height, name);
  const keepsWidth = width === picture.width && box[0] === 0 && box[2] === width;
  const keepsHeight = height === picture.height && box[1] === 0 && box[3] === height;
  const [left, right] = keepsWidth ? [part[0], part[2]] : reach(columns, part[0], part[2]);
  const [top, bottom] = keepsHeight ? [part[1], part[3]] : reach(rows, part[1], part[3]);
  const used = crop(picture, left, top, right, bottom);
  const across = (pixels: Pixels) => (keepsWidth ? pixels : pass(pixels, columns, part[0], part[2], left, true));
  const down = (pixels: Pixels) => (keepsHeight ? pixels : pass(pixels, rows, part[1], part[3], top, false));
  const lost = picture.height - height;
  return lost > 0 && lost > 2 * (picture.width - width) ? across(down(used)) : down(across(used));
}

/** The first pixel that some places read, and the one after the last. */
function reach(taps: Coefficients, first: number, last: number): [number, number] {
  return [taps.first[first]!, taps.first[last - 1]! + taps.count[last - 1]!];
}

/** Filter along the lines or along the columns; `offset` is the place of the first pixel in the whole picture. */
function pass(from: Pixels, taps: Coefficients, first: number, last: number, offset: number, isAcross: boolean): Pixels {
  const { channels, data } = from;
  const [width, height] = isAcross ? [last - first, from.height] : [from.width, last - first];
  const stride = from.width * channels;
  const step = isAcross ? channels : stride;
  const result = new Uint8ClampedArray(width * height * channels);
  const { weights, size } = taps;
  for (let place = first; place < last; place++) {
    const start = (taps.first[place]! - offset) * step;
    const end = taps.count[place]! * step;
    // Along the other axis: the values that this place has in each line, or in its line.
    const [others, from1, to1] = isAcross ? [height, stride, width * channels] : [1, 0, 0];
    const values = isAcross ? channels : stride;
    const begin = (place - first) * (isAcross ? channels : width * channels);
    for (let other = 0; other < others; other++) {
      for (let value = 0; value < values; value++) {
        const at = start + other * from1 + value;
        let sum = 1 << (BITS - 1);
        for (let k = 0, tap = place * size; k < end; k += step, tap++) sum += data[at + k]! * weights[tap]!;
        result[begin + other * to1 + value] = sum >> BITS;
      }
    }
  }
  return { data: result, width, height, channels };
}

/** For each of n places, the k pixels that are read there and their float32 weights. */
class Taps {
  constructor(
    readonly count: number,
    readonly size: number,
    readonly places: Int32Array,
    readonly weights: Float32Array,
  ) {}

  /** Return the taps of some of the places, moved by `offset` pixels. */
  slice(first: number, last: number, offset: number): Taps {
    const places = this.places.slice(first * this.size, last * this.size);
    if (offset) for (let i = 0; i < places.length; i++) places[i]! += offset;
    return new Taps(last - first, this.size, places, this.weights.slice(first * this.size, last * this.size));
  }
}

function tapsOf(name: Resample, old: number, count: number): Taps {
  if (name === "area") return areaTaps(old, count);
  const ratio = name === "lanczos" ? f32(1 / f32(f32(count) / f32(old))) : f32(f32(old) / f32(count));
  const size = { bilinear: 2, bicubic: 4, lanczos: 6 }[name as "bilinear" | "bicubic" | "lanczos"];
  const taps = new Taps(count, size, new Int32Array(count * size), new Float32Array(count * size));
  const row = new Float64Array(size);
  for (let i = 0; i < count; i++) {
    const place = f32(f32(f32(i + 0.5) * ratio) - 0.5);
    const low = floor(place);
    const at = i * size;
    if (name === "bilinear") {
      taps.places[at] = max(low, 0);
      taps.places[at + 1] = min(ceil(place), old - 1);
      taps.weights[at + 1] = f32(place - low);
      continue;
    }
    const start = low + 1 - size / 2;
    const share = rint(f32(f32(place - low) * 1024)) / 1024;
    let total = 0;
    for (let k = 0; k < size; k++) {
      const index = start + k;
      const far = name === "bicubic" ? abs(share - (k - 1)) : abs(index - place);
      const weight = name === "bicubic" ? keys(far) : far < 3 ? sinc(far) * sinc(far / 3) : 0;
      total += row[k] = index >= 0 && index < old ? weight : 0;
      taps.places[at + k] = min(max(index, 0), old - 1);
    }
    for (let k = 0; k < size; k++) taps.weights[at + k] = row[k]! / total;
  }
  return taps;
}

/** Keys' cubic with a = -0.5, written as the Python runtime writes it. */
function keys(far: number): number {
  return far <= 1 ? (1.5 * far - 2.5) * far * far + 1 : ((-0.5 * far + 2.5) * far - 4) * far + 2;
}

function areaTaps(old: number, count: number): Taps {
  const scale = f32(f32(old) / f32(count));
  const edges = Float32Array.from({ length: count + 1 }, (_, i) => f32(i) * scale);
  let size = 0;
  for (let i = 0; i < count; i++) size = max(size, ceil(edges[i + 1]!) - floor(edges[i]!));
  const taps = new Taps(count, size, new Int32Array(count * size), new Float32Array(count * size));
  for (let i = 0; i < count; i++) {
    const [first, last] = [edges[i]!, edges[i + 1]!];
    for (let k = 0; k < size; k++) {
      const index = floor(first) + k;
      const inside = index < first && index + 1 > last;
      const covered = inside ? scale : max(0, min(index + 1, last) - max(index, first));
      taps.places[i * size + k] = min(max(index, 0), old - 1);
      taps.weights[i * size + k] = covered / scale;
    }
  }
  return taps;
}

/** Interpolate first in x, then in y, in float32, in the order of TensorFlow's `ResizeBilinear`. */
function bilinear(picture: Pixels, rows: Taps, columns: Taps): Pixels {
  const { data: from, channels } = picture;
  const stride = picture.width * channels;
  const data = new Float32Array(rows.count * columns.count * channels);
  let to = 0;
  for (let y = 0; y < rows.count; y++) {
    const [above, below] = [rows.places[2 * y]! * stride, rows.places[2 * y + 1]! * stride];
    const share = rows.weights[2 * y + 1]!;
    for (let x = 0; x < columns.count; x++) {
      const [left, right] = [columns.places[2 * x]! * channels, columns.places[2 * x + 1]! * channels];
      const across = columns.weights[2 * x + 1]!;
      for (let c = 0; c < channels; c++, to++) {
        const start = from[above + left + c]!;
        const upper = f32(start + f32((from[above + right + c]! - start) * across));
        const begin = from[below + left + c]!;
        const lower = f32(begin + f32((from[below + right + c]! - begin) * across));
        data[to] = f32(upper + f32(f32(lower - upper) * share));
      }
    }
  }
  return { data, width: columns.count, height: rows.count, channels };
}

/** Add up weighted lines, then weighted columns, in float32. */
function separable(picture: Pixels, rows: Taps, columns: Taps): Pixels {
  const { data: from, channels } = picture;
  const stride = picture.width * channels;
  const line = new Float32Array(stride);
  const data = new Float32Array(rows.count * columns.count * channels);
  for (let y = 0; y < rows.count; y++) {
    line.fill(0);
    for (let k = 0; k < rows.size; k++) {
      const [start, weight] = [rows.places[y * rows.size + k]! * stride, rows.weights[y * rows.size + k]!];
      for (let x = 0; x < stride; x++) line[x] = line[x]! + f32(from[start + x]! * weight);
    }
    const begin = y * columns.count * channels;
    for (let x = 0; x < columns.count; x++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < columns.size; k++) {
          const at = columns.places[x * columns.size + k]! * channels + c;
          sum = f32(sum + f32(line[at]! * columns.weights[x * columns.size + k]!));
        }
        data[begin + x * channels + c] = sum;
      }
    }
  }
  return { data, width: columns.count, height: rows.count, channels };
}
