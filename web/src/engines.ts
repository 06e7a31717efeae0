/** The engines: LiteRT.js and ONNX Runtime Web, each imported when it is chosen, and each of them optional. */
import { EngineError, MissingDependencyError, reason, UsageError } from "./errors.js";
import { folderUrl } from "./files.js";
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
  return (engine.startsWith("litert") ? openLitert : openOnnx)(engine, model, threads, files);
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
import { max, min } from "./resample.js";
export function threadsFor(asked: number | undefined): number {
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1 && asked <= 1024)) {
    throw new UsageError(`threads must be 1 to 1024, not ${asked}`, "leave it out", "threads-invalid");
  }
  const isolated = NODE || globalThis.crossOriginIsolated === true;
  if (!isolated) return 1;
  return asked ?? max(1, min(8, (globalThis.navigator?.hardwareConcurrency ?? 2) >> 1));
}

function missing(library: string, why: unknown): MissingDependencyError {
  return new MissingDependencyError(
    `${library} cannot be loaded: ${reason(why)}`,
    `npm install ${library}; README.md says how a page finds it`,
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
  try {
    if (files.onnxruntime) return await files.onnxruntime();
    if (NODE) return await nodeModule();
    return await (engine.endsWith("webgpu") ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm"));
  } catch (error) {
    throw missing(NODE ? "onnxruntime-node" : "onnxruntime-web", error);
  }
}

/** The native engine, if it is installed, else the one in WebAssembly. */
async function nodeModule(): Promise<any> {
  const names = ["onnxruntime-node", "onnxruntime-web"]; // in variables: bundlers need neither
  const module: any = await import(names[0]!).catch(() => import(names[1]!));
  return module.InferenceSession ? module : module.default;
}

/** The hint where an engine fails. */
export const OTHER = "update the engine, or choose another: load(..., {engine})";

function unloadable(engine: EngineName, error: unknown): EngineError {
  return new EngineError(
    `${engine} cannot load the model: ${reason(error)}`, OTHER, "engine-load", error,
  );
}

function failed(engine: EngineName, error: unknown): EngineError {
  return new EngineError(`${engine} failed: ${reason(error)}`, OTHER, "engine-run", error);
}

let litertLoaded: Promise<number> | undefined;

/** Load LiteRT's WebAssembly once for the page; resolves to its number of threads. */
function litertReady(library: any, threads: number, files: EngineFiles): Promise<number> {
  const path = folderUrl(files.litertWasm ?? "engine/litert/wasm/");
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

/** Open a LiteRT file. */
async function openLitert(engine: EngineName, bytes: Uint8Array, asked: number, files: EngineFiles): Promise<Session> {
  const library = await litertModule(files);
  let model: any;
  let threads: number;
  try {
    threads = min(asked, await litertReady(library, asked, files));
    const accelerator = engine === "litert" ? "wasm" : "webgpu";
    model = await library.loadAndCompile(bytes, { accelerator, cpuOptions: { numThreads: threads } });
    if (accelerator === "webgpu" && !model.isFullyAccelerated) throw new Error("WebGPU runs only a part of the model");
  } catch (error) {
    model?.delete();
    throw unloadable(engine, error);
  }
  const specs = (details: any[]): TensorSpec[] => details.map(({ name, dtype, shape }) => ({ name, dtype, shape: [...shape] }));
  const inputs = specs(model.getInputDetails());
  return {
    engine, threads, inputs,
    version: "LiteRT.js",
    outputs: specs(model.getOutputDetails()),
    async run(feeds) {
      const tensors: any[] = [];
      try {
        feeds.forEach((feed, i) => tensors.push(new library.Tensor(feed, inputs[i]!.shape)));
        const results: any[] = await model.run(tensors);
        tensors.push(...results);
        return await Promise.all(results.map((tensor) => tensor.data()));
      } catch (error) {
        throw failed(engine, error);
      } finally {
        for (const tensor of tensors) tensor.delete();
      }
    },
    close: async () => model.delete(),
  };
}

/** Open an ONNX file. */
async function openOnnx(engine: EngineName, bytes: Uint8Array, threads: number, files: EngineFiles): Promise<Session> {
  const library = await ortModule(engine, files);
  const { env } = library;
  let session: any;
  try {
    if (!NODE) {
      env.wasm.wasmPaths ??= folderUrl(files.onnxruntimeWasm ?? "engine/onnxruntime/");
      env.wasm.numThreads = threads;
    }
    session = await library.InferenceSession.create(bytes, {
      executionProviders: [engine.endsWith("webgpu") ? "webgpu" : NODE && env.versions?.node ? "cpu" : "wasm"],
      ...(NODE ? { intraOpNumThreads: threads } : {}),
    });
  } catch (error) {
    throw unloadable(engine, error);
  }
  const specs = (metadata: any[]): TensorSpec[] =>
    metadata.map(({ name, type, shape }) => ({ name, dtype: type, shape: shape.map((side: number | string) => (Number(side) > 0 ? side : null)) }));
  const inputs = specs(session.inputMetadata);
  const outputs = specs(session.outputMetadata);
  let last: Promise<unknown> = Promise.resolve(); // ONNX Runtime Web runs one inference at a time
  return {
    engine, threads, inputs, outputs,
    version: `ONNX Runtime ${env.versions?.common ?? ""}`,
    run(feeds) {
      const result = last.then(async () => {
        try {
          const tensor = (feed: Values, i: number) => new library.Tensor(inputs[i]!.dtype, feed, inputs[i]!.shape.map((side) => side ?? 1));
          const results = await session.run(Object.fromEntries(feeds.map((feed, i) => [inputs[i]!.name, tensor(feed, i)])));
          return outputs.map(({ name }) => results[name].data);
        } catch (error) {
          throw failed(engine, error);
        }
      });
      last = result.catch(() => undefined);
      return result;
    },
    close: () => session.release(),
  };
}
