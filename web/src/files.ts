/** Reads the files of a bundle, from a server or in Node from a folder: the listed size and SHA-256, before any parser. */
import { AGAIN, BundleError, MissingDependencyError, reason } from "./errors.js";
import { CONTROL, utf8 } from "./json.js";
import type { FileEntry } from "./manifest.js";

/** A place to read a bundle from. `read` returns at most `limit` bytes of a file, null if there is no such file. */
export interface Source {
  readonly name: string;
  read(path: string, limit: number): Promise<Uint8Array<ArrayBuffer> | null>;
}

/** The folder at a URL, or in Node a folder of the file system; an object with `read` is returned as it is. */
export function sourceOf(bundle: string | URL | Source): Source {
  if (typeof bundle === "object" && "read" in bundle) return bundle;
  const text = String(bundle);
  return NODE && !/^(https?|blob|data):/.test(text) ? new FolderSource(bundle) : new WebSource(text);
}

declare global {
  /** True in the build for Node, false in that for pages: build.mjs defines it. */
  const NODE: boolean;
}

class WebSource implements Source {
  readonly name: string;

  constructor(url: string) {
    this.name = folderUrl(url);
  }

  async read(path: string, limit: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const blocks: Uint8Array[] = [];
    let size = 0;
    try {
      const { body, ok, status } = await fetch(new URL(path, this.name), { cache: "no-cache" }); // else a cache may mix two bundles
      if (status === 404 || status === 410) return null;
      if (!ok || body === null) throw new Error(`the server answers ${status}`);
      const reader = body.getReader();
      while (size < limit) {
        const { done, value } = await reader.read();
        if (done) break;
        blocks.push(value.subarray(0, limit - size));
        size += blocks[blocks.length - 1]!.length;
      }
      if (size >= limit) await reader.cancel();
    } catch (error) {
      throw unreadable(path, error);
    }
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const block of blocks) {
      bytes.set(block, at);
      at += block.length;
    }
    return bytes;
  }
}

class FolderSource implements Source {
  readonly name: string;

  constructor(private readonly folder: string | URL) {
    this.name = String(folder);
  }

  async read(path: string, limit: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const [fs, system, url] = await Promise.all([import("node:fs/promises"), import("node:path"), import("node:url")]);
    const given = this.name.startsWith("file:") ? url.fileURLToPath(this.folder as URL) : this.name;
    const root = await fs.realpath(given).catch((error) => {
      throw new BundleError(`there is no bundle ${given}`, "check the path", "bundle-not-found", error);
    });
    const file = await fs.realpath(system.join(root, path)).catch(() => null);
    if (file === null) return null;
    if (!file.startsWith(root + system.sep)) {
      throw new BundleError(`${path} is a link to ${file}, outside the bundle`, "copy the bundle with its files (cp -L), not with links", "file-outside");
    }
    try {
      if (!(await fs.stat(file)).isFile()) {
        throw new BundleError(`${path} is not a regular file`, AGAIN, "file-not-regular");
      }
      const handle = await fs.open(file);
      try {
        const size = Math.min(limit, (await handle.stat()).size);
        const bytes = new Uint8Array(size);
        const { bytesRead } = size ? await handle.read(bytes, 0, size, 0) : { bytesRead: 0 };
        return bytes.subarray(0, bytesRead);
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (error instanceof BundleError) throw error;
      throw unreadable(path, error);
    }
  }
}

/** Return a folder as an absolute URL, next to the page or the worker unless it is named so. */
export function folderUrl(given: string): string {
  const url = new URL(given, NODE ? undefined : typeof document === "object" ? document.baseURI : location.href);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

function unreadable(path: string, error: unknown): BundleError {
  return new BundleError(`${path} cannot be read: ${reason(error)}`, "check the address and the network", "file-unreadable", error);
}

/** WebCrypto; `MissingDependencyError` `missing-dependency` where the page is not trusted with it. */
export function subtle(): SubtleCrypto {
  if (globalThis.crypto?.subtle === undefined) {
    throw new MissingDependencyError(
      "this page has no WebCrypto to check files with",
      "serve the page over https, or from localhost",
      "missing-dependency",
    );
  }
  return globalThis.crypto.subtle;
}

export const latin1 = (bytes: Uint8Array) => new TextDecoder("latin1").decode(bytes);

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await subtle().digest("SHA-256", bytes)));
}

/**
 * Return the bytes of one file, once they have the listed size and SHA-256: the very bytes that were hashed.
 * `BundleError`: `file-missing`, `file-size`, `file-hash`, and those of the source.
 */
export async function readEntry(source: Source, entry: FileEntry): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await source.read(entry.path, entry.size + 1);
  if (bytes === null) throw new BundleError(`the bundle has no file ${entry.path}`, AGAIN, "file-missing");
  if (bytes.length !== entry.size) {
    const told = bytes.length > entry.size ? "more" : String(bytes.length);
    throw new BundleError(
      `${entry.path} has ${told} bytes, the manifest says ${entry.size}`, AGAIN, "file-size",
    );
  }
  const digest = await sha256(bytes);
  if (digest !== entry.sha256) {
    throw new BundleError(
      `${entry.path} is not the file that was exported (its SHA-256 is ${digest.slice(0, 12)}…)`,
      AGAIN,
      "file-hash",
    );
  }
  return bytes;
}

/** Read the names of the classes: one a line. `BundleError` `labels-invalid`. */
export function labelsFrom(bytes: Uint8Array, classes: number, characters: boolean): string[] {
  const wrong = (message: string) =>
    new BundleError(`the labels file is wrong: ${message}`, "export again with one class name a line", "labels-invalid");
  let text: string;
  try {
    text = utf8(bytes);
  } catch {
    throw wrong("it is not UTF-8");
  }
  const names = text ? text.replace(/\n$/, "").split("\n") : [];
  if (names.length !== classes) throw wrong(`it has ${names.length} names for ${classes} classes`);
  names.forEach((name, number) => {
    if (!(characters ? name : name.trim()) || [...name].length > 1000 || CONTROL.test(name)) {
      throw wrong(`the name of class ${number}`);
    }
  });
  return names;
}

export interface NpyArray {
  readonly data: Uint8Array | Float32Array;
  readonly shape: readonly number[];
}

const NPY = /^\{'descr': '(\|u1|<f4)', 'fortran_order': False, 'shape': \(((?:\d{1,12},? ?)*)\), \} *\n$/;

/** Read a .npy file of uint8 or float32; the shape must account for every byte. `BundleError` `array-invalid`. */
export function arrayFromNpy(bytes: Uint8Array, path: string): NpyArray {
  const wrong = (why: string) => new BundleError(`${path} is not a .npy file of a bundle: ${why}`, AGAIN, "array-invalid");
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0];
  if (bytes.length < 10 || !magic.every((byte, at) => bytes[at] === byte)) throw wrong("its first bytes");
  const start = 10 + bytes[8]! + 256 * bytes[9]!;
  const form = NPY.exec(latin1(bytes.subarray(10, start)));
  if (form === null) throw wrong("its header");
  const shape = form[2]!.split(",").map((side) => side.trim()).filter(Boolean).map(Number);
  const count = shape.reduce((a, b) => a * b, 1);
  const size = form[1] === "|u1" ? 1 : 4;
  const body = bytes.slice(start); // aligned to four bytes
  if (count * size !== body.length) throw wrong(`${bytes.length} bytes for the shape ${shape}`);
  return { data: size === 1 ? body : new Float32Array(body.buffer), shape };
}
