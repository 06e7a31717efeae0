/** xxdeploy-web: runs bundles of xxdeploy in a browser and in Node. See README.md. */
export { load, type LoadOptions } from "./load.js";
export { Model, type Numbers, type OutputValues, type Sample, type SelfTest } from "./model.js";
export type { OutputPicture, Prediction, Reading } from "./answers.js";
export type { EngineFiles, EngineName, Session } from "./engines.js";
export type { Source } from "./files.js";
export type { Manifest, TensorSpec, Variant } from "./manifest.js";
export type { Picture, RawPixels } from "./picture.js";
export type { Preprocess } from "./preprocess.js";
export { BundleError, EngineError, MissingDependencyError, UsageError, VerificationError, XXDeployError } from "./errors.js";
