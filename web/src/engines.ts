/** The engines: LiteRT.js and ONNX Runtime Web, each imported when it is chosen, and each of them optional. */
import { EngineError, MissingDependencyError, reason, UsageError } from "./errors.js";
import { pageUrl } from "./files.js";
import type { TensorSpec } from "./manifest.js";

export const ENGINES = ["litert", "litert-webgpu", "onnxruntime", "onnxruntime-webgpu"] as const;
/** `litert` and `onnxruntime` run in WebAssembly on the processor; `-webgpu` on the graphics card. */
export type EngineName = (typeof ENGINES)[number];

/** Modules and places of the engines, for pages without a bundler or an import map. */
export interface EngineFiles {
  /** Returns the module `@litertjs/core`. */
  readonly litert?: () => Promise<any>;
  /** Returns the module `onnxruntime-web/wasm` (or `onnxruntime-web/webgpu`, `onnxruntime-node`). */
  readonly onnxruntime?: () => Promise<any>;
  /** Folder of `litert_wasm_internal.js` and the files next to it; by default `engine/litert/wasm/` next to the page. */
  readonly litertWasm?: string;
  /** Folder of `ort-wasm-simd-threaded.wasm`; by default `engine/onnxruntime/` next to the page. */
  readonly onnxruntimeWasm?: string;
}

export type Values = Uint8Array | Float32Array;

/** A model in an engine. It runs one sample at a time. */
export interface Session {
  readonly engine: EngineName;
  readonly version: string;
  readonly threads: number;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Run one sample: the values of each input, to those of each output. `EngineError` `engine-run`. */
  run(feeds: readonly Values[]): Promise<readonly (Float32Array | BigInt64Array)[]>;
  close(): Promise<void>;
}

/** Open a model. `EngineError` `engine-load`; `MissingDependencyError` `missing-dependency`. */
export function openSession(engine: EngineName, model: Uint8Array, threads: number, files: EngineFiles): Promise<Session> {
  return engine.startsWith("litert") ? LitertSession.open(engine, model, threads, files) : OrtSession.open(engine, model, threads, files);
}

/** Return whether the module of an engine can be imported here. */
export async function isInstalled(engine: EngineName, files: EngineFiles): Promise<boolean> {
  if (engine.endsWith("webgpu") && !(globalThis.navigator as { gpu?: unknown } | undefined)?.gpu) return false;
  try {
    await (engine.startsWith("litert") ? litertModule(files) : ortModule(engine, files));
    return true;
  } catch {
    return false;
  }
}

/** The number of threads where the caller names none: more than one needs a page that is isolated from other origins. */
export function threadsFor(asked: number | undefined): number {
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1 && asked <= 1024)) {
    throw new UsageError(`threads must be 1 to 1024, not ${asked}`, "leave it out to use the processors that the browser names", "threads-invalid");
  }
  const isolated = NODE || globalThis.crossOriginIsolated === true;
  if (!isolated) return 1;
  return asked ?? Math.max(1, Math.min(8, (globalThis.navigator?.hardwareConcurrency ?? 2) >> 1));
}

function missing(library: string, why: unknown): MissingDependencyError {
  return new MissingDependencyError(
    `${library} cannot be loaded: ${reason(why)}`,
    `npm install ${library}, and let the page find it: see "Engines" in docs/web.md`,
    "missing-dependency",
    why,
  );
}

async function litertModule(files: EngineFiles): Promise<any> {
  if (NODE) {
    throw new MissingDependencyError("LiteRT.js runs in browsers only", "leave out engine, or choose onnxruntime", "missing-dependency");
  }
  try {
    return await (files.litert?.() ?? import("@litertjs/core"));
  } catch (error) {
    throw missing("@litertjs/core", error);
  }
}

async function ortModule(engine: EngineName, files: EngineFiles): Promise<any> {
  if (files.onnxruntime) {
    try {
      return await files.onnxruntime();
    } catch (error) {
      throw missing("onnxruntime-web", error);
    }
  }
  if (NODE) {
    for (const name of ["onnxruntime-node", "onnxruntime-web"]) {
      try {
        const module = await import(/* webpackIgnore: true */ /* @vite-ignore */ name);
        return module.InferenceSession ? module : module.default;
      } catch (error) {
        if (name === "onnxruntime-web") throw missing("onnxruntime-node", error);
      }
    }
  }
  try {
    return await (engine.endsWith("webgpu") ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm"));
  } catch (error) {
    throw missing("onnxruntime-web", error);
  }
}

/** A folder as an absolute URL, next to the page unless it is named. */
function folder(given: string | undefined, usual: string): string {
  const url = new URL(given ?? usual, pageUrl()).href;
  return url.endsWith("/") ? url : `${url}/`;
}

function unloadable(engine: EngineName, error: unknown): EngineError {
  return new EngineError(
    `${engine} cannot load the model: ${reason(error)}`, "another engine may: load(..., {engine}); or update the engine", "engine-load", error,
  );
}

function failed(engine: EngineName, error: unknown): EngineError {
  return new EngineError(`${engine} failed: ${reason(error)}`, "load the bundle again, or with another engine: load(..., {engine})", "engine-run", error);
}

let litertLoaded: Promise<number> | undefined;

/** Load LiteRT's WebAssembly once for the page; resolves to its number of threads. */
function litertReady(library: any, threads: number, files: EngineFiles): Promise<number> {
  const path = folder(files.litertWasm, "engine/litert/wasm/");
  litertLoaded ??= (async () => {
    // Emscripten's settings: LiteRT writes its remarks to stderr, which the console would show as errors.
    (globalThis as any).Module = { printErr: (text: string) => console[/^(ERROR|F)/.test(text) ? "error" : "debug"](text) };
    if (threads > 1) {
      try {
        await library.loadLiteRt(path, { threads: true });
        return threads;
      } catch {
        // Without relaxed SIMD there are no threads.
      }
    }
    await library.loadLiteRt(path);
    return 1;
  })();
  litertLoaded.catch(() => (litertLoaded = undefined));
  return litertLoaded;
}

class LitertSession implements Session {
  readonly version = "LiteRT.js";
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];

  private constructor(
    readonly engine: EngineName,
    readonly threads: number,
    private readonly library: any,
    private readonly model: any,
  ) {
    const specs = (details: any[]) =>
      details.map(({ name, dtype, shape }) => ({ name: String(name), dtype: String(dtype), shape: Array.from(shape as Int32Array) }));
    this.inputs = specs(model.getInputDetails());
    this.outputs = specs(model.getOutputDetails());
  }

  static async open(engine: EngineName, model: Uint8Array, threads: number, files: EngineFiles): Promise<Session> {
    const library = await litertModule(files);
    try {
      const most = await litertReady(library, threads, files);
      const used = Math.min(threads, most);
      const accelerator = engine === "litert" ? "wasm" : "webgpu";
      const compiled = await library.loadAndCompile(model, { accelerator, cpuOptions: { numThreads: used } });
      if (accelerator === "webgpu" && !compiled.isFullyAccelerated) {
        compiled.delete();
        throw new Error("WebGPU runs only a part of the model");
      }
      return new LitertSession(engine, used, library, compiled);
    } catch (error) {
      throw unloadable(engine, error);
    }
  }

  async run(feeds: readonly Values[]): Promise<readonly Float32Array[]> {
    const tensors: any[] = [];
    try {
      feeds.forEach((feed, i) => tensors.push(new this.library.Tensor(feed, this.inputs[i]!.shape)));
      const outputs = await this.model.run(tensors);
      tensors.push(...outputs);
      return await Promise.all(outputs.map((tensor: any) => tensor.data()));
    } catch (error) {
      throw failed(this.engine, error);
    } finally {
      for (const tensor of tensors) tensor.delete();
    }
  }

  async close(): Promise<void> {
    this.model.delete();
  }
}

class OrtSession implements Session {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** ONNX Runtime Web runs one inference at a time. */
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly engine: EngineName,
    readonly version: string,
    readonly threads: number,
    private readonly library: any,
    private readonly session: any,
  ) {
    const specs = (metadata: any[]) =>
      metadata.map(({ name, type, shape }) => ({
        name: String(name),
        dtype: String(type),
        shape: (shape as (number | string)[]).map((side) => (typeof side === "number" && side > 0 ? side : null)),
      }));
    this.inputs = specs(session.inputMetadata);
    this.outputs = specs(session.outputMetadata);
  }

  static async open(engine: EngineName, model: Uint8Array, threads: number, files: EngineFiles): Promise<Session> {
    const library = await ortModule(engine, files);
    const isGpu = engine.endsWith("webgpu");
    try {
      if (!NODE) {
        const wasm = library.env.wasm;
        wasm.wasmPaths ??= folder(files.onnxruntimeWasm, "engine/onnxruntime/");
        wasm.numThreads = threads;
      }
      const native = NODE && library.env?.versions?.node !== undefined;
      const session = await library.InferenceSession.create(model, {
        executionProviders: isGpu ? ["webgpu"] : native ? ["cpu"] : ["wasm"],
        ...(NODE ? { intraOpNumThreads: threads } : {}),
      });
      return new OrtSession(engine, `ONNX Runtime ${library.env?.versions?.common ?? ""}`.trim(), threads, library, session);
    } catch (error) {
      throw unloadable(engine, error);
    }
  }

  run(feeds: readonly Values[]): Promise<readonly (Float32Array | BigInt64Array)[]> {
    const result = this.last.then(async () => {
      try {
        const named: Record<string, unknown> = {};
        feeds.forEach((feed, i) => {
          const { name, dtype, shape } = this.inputs[i]!;
          named[name] = new this.library.Tensor(dtype, feed, shape.map((side) => side ?? 1));
        });
        const outputs = await this.session.run(named);
        return this.outputs.map(({ name }) => outputs[name].data);
      } catch (error) {
        throw failed(this.engine, error);
      }
    });
    this.last = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    await this.session.release();
  }
}
