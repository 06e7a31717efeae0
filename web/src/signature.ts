/** Ed25519 signatures of manifest.json (docs/signing.md), checked before the manifest is parsed. */
import { AGAIN, BundleError, MissingDependencyError, UsageError } from "./errors.js";
import { hex, latin1, sha256, subtle } from "./files.js";
import { MANIFEST } from "./manifest.js";

export const MAX_SIGNATURE_BYTES = 1024;
const FORM = /^xxdeploy-signature 1\nversion (0|[1-9][0-9]{0,18})\nkey ([0-9a-f]{32})\nsignature ([0-9a-f]{128})\n$/;
const PEM = /-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]{1,4096})-----END PUBLIC KEY-----/g;
/** SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes (RFC 8410). */
const SPKI = "302a300506032b6570032100";
/** The hint where a bundle is not what its owner signed. */
const TRUSTED = "get the newest bundle, signed by `xxdeploy sign`, from a source you trust";
const KEYGEN = "give the text of the .pub file that `xxdeploy keygen` wrote";
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
    if (minVersion) throw new UsageError("without a key, a version proves nothing", "give the public key, too", "min-version-without-key");
    return null;
  }
  const text = typeof key === "string" ? key : latin1(key);
  if (text.includes("PRIVATE KEY")) throw invalid("it is a private key, which belongs on no device", KEYGEN);
  const blocks = [...text.matchAll(PEM)];
  if (!blocks.length || text.replace(PEM, "").trim()) {
    throw invalid("it is not a PEM text of public keys", KEYGEN);
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
    throw invalid("it is damaged", KEYGEN);
  }
  if (der.length !== 44 || hex(der.subarray(0, 12)) !== SPKI) throw invalid("it is damaged, or no Ed25519 key", KEYGEN);
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
      TRUSTED,
      "signature-missing",
    );
  }
  const form = FORM.exec(latin1(signature));
  const version = form === null ? MAX_VERSION + 1n : BigInt(form[1]!);
  if (form === null || version > MAX_VERSION) {
    throw new BundleError(`the signature of ${MANIFEST} is damaged`, AGAIN, "signature-damaged");
  }
  const names = await Promise.all(trust.keys.map(async (key) => (await sha256(key)).slice(0, 32)));
  const key = trust.keys[names.indexOf(form[2]!)];
  if (key === undefined) {
    throw new BundleError(
      `${MANIFEST} is signed with the key ${form[2]}, and trusted are ${names}`,
      TRUSTED,
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
      `the signature of ${MANIFEST} was made for other bytes or another version`,
      TRUSTED,
      "signature-wrong",
    );
  }
  if (version < trust.minVersion) {
    throw new BundleError(
      `${MANIFEST} is version ${version}, older than ${trust.minVersion}`,
      TRUSTED,
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
      "this browser cannot check Ed25519 signatures", "update it: Chrome 137, Firefox 129, Safari 17", "missing-dependency", error,
    );
  }
  return crypto.verify({ name: "Ed25519" }, imported, value, message);
}
