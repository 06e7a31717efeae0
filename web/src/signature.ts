/** Ed25519 signatures of manifest.json (docs/signing.md), checked before the manifest is parsed. */
import { BundleError, MissingDependencyError, UsageError } from "./errors.js";
import { hex, sha256, subtle } from "./files.js";
import { MANIFEST } from "./manifest.js";

export const MAX_SIGNATURE_BYTES = 1024;
const FORM = /^xxdeploy-signature 1\nversion (0|[1-9][0-9]{0,18})\nkey ([0-9a-f]{32})\nsignature ([0-9a-f]{128})\n$/;
const PEM = /-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]{1,4096})-----END PUBLIC KEY-----/g;
/** SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes (RFC 8410). */
const SPKI = "302a300506032b6570032100";
const MAX_VERSION = 2n ** 63n - 1n;

/** The public keys, 32 bytes each, any one of which will do, and the oldest version that is still accepted. */
export interface Trust {
  readonly keys: readonly Uint8Array<ArrayBuffer>[];
  readonly minVersion: bigint;
}

/**
 * Read the public keys of a PEM text; undefined returns null. `UsageError`: `key-invalid`, `version-invalid`,
 * `min-version-without-key`.
 */
export function trustOf(key: string | Uint8Array | undefined, minVersion: number | bigint = 0): Trust | null {
  if (typeof minVersion === "bigint" ? minVersion < 0n || minVersion > MAX_VERSION : !Number.isSafeInteger(minVersion) || minVersion < 0) {
    throw new UsageError(`a version is a whole number of 0 or more, not ${minVersion}`, "count up by one with each release", "version-invalid");
  }
  if (key === undefined) {
    if (minVersion) throw new UsageError("without a key anybody can write any version number", "give the public key, too", "min-version-without-key");
    return null;
  }
  const text = typeof key === "string" ? key : new TextDecoder("latin1").decode(key);
  if (text.includes("PRIVATE KEY")) throw invalid("it is a private key, which belongs on no device", "give the file that ends in .pub");
  const blocks = [...text.matchAll(PEM)];
  if (!blocks.length || text.replace(PEM, "").trim()) {
    throw invalid("it is not a PEM text of public keys", "give the text of the file that `xxdeploy keygen` wrote");
  }
  return { keys: blocks.map((block) => rawKey(block[1]!)), minVersion: BigInt(minVersion) };
}

function invalid(why: string, hint: string): UsageError {
  return new UsageError(`the key cannot be used: ${why}`, hint, "key-invalid");
}

function rawKey(base64: string): Uint8Array<ArrayBuffer> {
  let der: Uint8Array<ArrayBuffer>;
  try {
    der = Uint8Array.from(atob(base64.replace(/\s/g, "")), (letter) => letter.charCodeAt(0));
  } catch {
    throw invalid("it is damaged", "give the text of the file that `xxdeploy keygen` wrote");
  }
  if (der.length !== 44 || hex(der.subarray(0, 12)) !== SPKI) throw invalid("it is damaged, or no Ed25519 key", "make one with `xxdeploy keygen`");
  return der.slice(12);
}

/**
 * Return the version that the manifest's bytes were signed as. `BundleError`: `signature-missing`,
 * `signature-damaged`, `signature-key`, `signature-wrong`, `signature-old`.
 */
export async function versionOf(trust: Trust, record: Uint8Array, signature: Uint8Array | null): Promise<bigint> {
  if (signature === null) {
    throw new BundleError(
      `${MANIFEST} is not signed, and a key is required`,
      "get the bundle from a source you trust; its owner signs it with `xxdeploy sign`",
      "signature-missing",
    );
  }
  const form = FORM.exec(new TextDecoder("latin1").decode(signature));
  const version = form === null ? MAX_VERSION + 1n : BigInt(form[1]!);
  if (form === null || version > MAX_VERSION) {
    throw new BundleError(`the signature of ${MANIFEST} is damaged`, "copy the bundle again", "signature-damaged");
  }
  const names = await Promise.all(trust.keys.map(async (key) => (await sha256(key)).slice(0, 32)));
  const key = trust.keys[names.indexOf(form[2]!)];
  if (key === undefined) {
    throw new BundleError(
      `${MANIFEST} is signed with the key ${form[2]!.slice(0, 12)}…, which is not trusted here ` +
        `(trusted: ${names.map((name) => `${name.slice(0, 12)}…`).join(", ")})`,
      "do not use the bundle, unless you know the owner of that key",
      "signature-key",
    );
  }
  const head = new TextEncoder().encode(`xxdeploy-signature 1\n${MANIFEST}\nversion ${form[1]}\n`);
  const message = new Uint8Array(head.length + record.length);
  message.set(head);
  message.set(record, head.length);
  const value = Uint8Array.from(form[3]!.match(/../g)!, (pair) => parseInt(pair, 16));
  if (!(await isSigned(key, value, message))) {
    throw new BundleError(
      `the signature of ${MANIFEST} is not right: it was made for other bytes or another version`,
      "the file was changed after it was signed: get the bundle again from a source you trust",
      "signature-wrong",
    );
  }
  if (version < trust.minVersion) {
    throw new BundleError(
      `${MANIFEST} is version ${version}, older than ${trust.minVersion}`,
      "an old bundle was put in place of a newer one: get the newest",
      "signature-old",
    );
  }
  return version;
}

async function isSigned(key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>, message: Uint8Array<ArrayBuffer>): Promise<boolean> {
  const crypto = subtle();
  let imported: CryptoKey;
  try {
    imported = await crypto.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    throw new MissingDependencyError(
      "this browser cannot check Ed25519 signatures", "update it (Chrome 137, Firefox 129, Safari 17 or Node 20)", "missing-dependency", error,
    );
  }
  return crypto.verify({ name: "Ed25519" }, imported, value, message);
}
