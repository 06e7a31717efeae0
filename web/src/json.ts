/** JSON from somewhere else, read as strictly as by xxdeploy/runtime/bundle/strict_json.py. */
import { AGAIN, BundleError, quoted, reason } from "./errors.js";

/** A number that is written with a fraction or an exponent: `1.0` is no whole number, `1` is one. */
export class Float {
  constructor(readonly value: number) {}
}

export type Json = null | boolean | string | number | Float | Json[] | JsonObject;
export type JsonObject = Map<string, Json>;

export const MAX_BYTES = 4 << 20;
const MAX_DEPTH = 900;
const MAX_DIGITS = 4300;
/** Unicode's categories Cc and Cs. */
export const CONTROL = /[\u0000-\u001f\u007f-\u009f]|\p{Surrogate}/u;

export function wrongValue(message: string): BundleError {
  return new BundleError(`the manifest is wrong: ${message}`, AGAIN, "manifest-value");
}

/**
 * Parse a whole document. `BundleError`: `manifest-json` (no JSON or UTF-8, NaN, infinity, a key twice, nested too
 * deep), `manifest-too-large`, `manifest-text` (control characters).
 */
export function parse(bytes: Uint8Array): Json {
  if (bytes.length > MAX_BYTES) {
    throw new BundleError(`the manifest has more than ${MAX_BYTES} bytes`, "this is no bundle of xxdeploy", "manifest-too-large");
  }
  let control: string | undefined;
  let value: Json;
  try {
    value = build(marked(utf8(bytes)), 0, (text) => {
      if (CONTROL.test(text)) control ??= text;
      return text;
    });
  } catch (error) {
    throw new BundleError(`the manifest is not valid JSON: ${reason(error)}`, AGAIN, "manifest-json", error);
  }
  if (control !== undefined) {
    throw new BundleError(`the manifest has a control character in ${quoted(control)}`, AGAIN, "manifest-text");
  }
  return value;
}

export const utf8 = (bytes: Uint8Array) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*/g;

/**
 * Parse with the browser's parser, which forgets two things: a key that occurs twice, and whether a number has a
 * fraction. So each key first gets a number of its own, after a control character; each float becomes a string that
 * ends in `f`, and each string gets an `s` at its end.
 */
function marked(text: string): unknown {
  JSON.parse(text); // other errors than those below are found in the text as it is
  let keys = 0;
  const tokens = text.replace(TOKENS, (token, string?: string, colon?: string) => {
    if (string === undefined) {
      if (token.length > MAX_DIGITS) throw new SyntaxError("a number has too many digits");
      return /^-?\d+$/.test(token) ? token : `"${token}f"`;
    }
    return colon ? `${string.slice(0, -1)}\\u0000${keys++}":` : `${string.slice(0, -1)}s"`;
  });
  return JSON.parse(tokens);
}

function build(value: any, depth: number, checked: (text: string) => string): Json {
  if (depth > MAX_DEPTH) throw new SyntaxError("it is nested too deep");
  if (typeof value === "string") {
    const text = value.slice(0, -1);
    if (value.endsWith("s")) return checked(text);
    if (!Number.isFinite(Number(text))) throw new SyntaxError(`${text.slice(0, 40)} is not JSON`);
    return new Float(Number(text));
  }
  if (value === null || typeof value !== "object") return typeof value === "number" ? value + 0 : value;
  if (Array.isArray(value)) return value.map((item) => build(item, depth + 1, checked));
  const members: JsonObject = new Map();
  for (const [key, item] of Object.entries(value)) {
    const name = checked(key.slice(0, key.lastIndexOf("\0")));
    if (members.has(name)) throw new SyntaxError("a key occurs twice in one object");
    members.set(name, build(item, depth + 1, checked));
  }
  return members;
}

/** Turns a value into what is wanted; `where` names it in the error. */
export type Reader<T> = (value: Json, where: string) => T;

function reader<T>(kind: string, read: (value: Json) => T | undefined): Reader<T> {
  return (value, where) => {
    const wanted = read(value);
    if (wanted === undefined) throw wrongValue(`${where.slice(0, 80)} must be of type ${kind}`);
    return wanted;
  };
}

export const object = reader("dict", (value) => (value instanceof Map ? value : undefined));
export const text = reader("str", (value) => (typeof value === "string" ? value : undefined));
export const int = reader("int", (value) => (typeof value === "number" ? value : undefined));
/** A number, with or without a fraction. */
export const number = reader("float", (value) =>
  value instanceof Float ? value.value : typeof value === "number" && Math.abs(value) < 2 ** 53 ? value : undefined,
);
const array = reader("list", (value) => (Array.isArray(value) ? value : undefined));

export function list<T>(item: Reader<T>): Reader<T[]> {
  return (value, where) => array(value, where).map((each) => item(each, where.replace(/s$/, "")));
}

export function orNull<T>(read: Reader<T>): Reader<T | null> {
  return (value, where) => (value === null ? null : read(value, where));
}

export type Readers<T> = { readonly [K in keyof T]: Reader<T[K]> };

/** Read an object that has exactly the keys of `readers` (else `manifest-keys`); then `check` it. */
export function record<T extends object>(readers: Readers<T>, check?: (record: T) => void): Reader<T> {
  return (value, where) => {
    const given = object(value, where);
    const keys = Object.keys(readers) as (keyof T & string)[];
    const missing = keys.filter((key) => !given.has(key));
    const unknown = [...given.keys()].filter((key) => !Object.hasOwn(readers, key)).sort();
    if (missing.length || unknown.length) {
      throw new BundleError(
        `${where} has the wrong keys: missing ${missing}; unknown ${unknown}`.slice(0, 400),
        `${AGAIN}, or update xxdeploy-web`,
        "manifest-keys",
      );
    }
    const result = Object.fromEntries(keys.map((key) => [key, readers[key](given.get(key)!, key)])) as T;
    check?.(result);
    return result;
  };
}
