/** From the output for one sample to an answer, as xxdeploy/runtime/answers.py. */
import { OTHER } from "./engines.js";
import { EngineError } from "./errors.js";
import { max, min, rint } from "./resample.js";

export interface Prediction {
  readonly index: number;
  readonly label: string;
  /** 0..1 */
  readonly probability: number;
}

/** The best classes, best first; equal ones in the order of their index. */
export function topPredictions(values: Float32Array, labels: readonly string[], top: number): Prediction[] {
  const order = Array.from(values.keys()).sort((a, b) => values[b]! - values[a]! || a - b);
  return order.slice(0, top).map((index) => ({ index, label: labels[index]!, probability: values[index]! }));
}

export interface Reading {
  readonly text: string;
  /** The probability of the best class of every step, multiplied. */
  readonly probability: number;
}

/** Greedy decoding of CTC (Graves et al. 2006, section 3.2) of (steps, classes). */
export function readingFrom(values: Float32Array, labels: readonly string[], blank: number): Reading {
  const classes = labels.length;
  let [text, probability, before] = ["", 1, -1];
  for (let start = 0; start < values.length; start += classes) {
    const best = argmax(values, start, classes);
    probability *= values[start + best]!;
    if (best !== before && best !== blank) text += labels[best]!;
    before = best;
  }
  return { text, probability };
}

export function argmax(values: ArrayLike<number>, start: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++) if (values[start + i]! > values[start + best]!) best = i;
  return best;
}

/** An output picture: gray (1) or RGB (3) bytes, or for a mask the class of each pixel (1). */
export interface OutputPicture {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
}

/** Turn (height, width, channels) into a picture; without a range into a mask. */
export function pictureFrom(values: Float32Array, shape: readonly number[], range: readonly number[] | null): OutputPicture {
  const [height, width, depth] = shape as [number, number, number];
  if (range !== null) {
    const [low, high] = range as [number, number];
    const data = Uint8Array.from(values, (value) => rint(min(255, max(0, (value - low) * (255 / (high - low))))));
    return { data, width, height, channels: depth as 1 | 3 };
  }
  const data = new Uint8Array(width * height);
  for (let i = 0; i < data.length; i++) data[i] = depth === 1 ? Number(values[i]! > 0.5) : argmax(values, i * depth, depth);
  return { data, width, height, channels: 1 };
}

/** Put the values of a top-k model into their places, and an equal share of the rest of 1 elsewhere. */
export function spread(values: Float32Array, classes: BigInt64Array, count: number): Float32Array {
  const rest = (1 - values.reduce((a, b) => a + b, 0)) / max(1, count - values.length);
  const whole = new Float32Array(count).fill(min(max(rest, 0), values[values.length - 1]!));
  classes.forEach((index, i) => {
    if (index < 0n || index >= BigInt(count)) {
      throw new EngineError(`the model names class ${index} of ${count}`, OTHER, "engine-output");
    }
    whole[Number(index)] = values[i]!;
  });
  return whole;
}
