/**
 * Every error that the package throws on purpose: a message that says what is wrong, a hint that says what to do, and
 * the code of the same error in Python (docs/errors.md). `instanceof` one of the classes below tells its kind.
 */
export class XXDeployError extends Error {
  readonly hint: string;
  readonly code: string;

  constructor(message: string, hint: string, code: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.hint = hint;
    this.code = code;
  }

  /** The two lines that a person sees. */
  override toString(): string {
    return `error[${this.code}]: ${this.message}\n hint: ${this.hint}`;
  }
}

function kind(name: string) {
  return class extends XXDeployError {
    override readonly name = name;
  };
}

/** The request cannot be carried out: options, pictures. */
export class UsageError extends kind("UsageError") {}

/** A library or a feature of the browser that this step needs is missing. */
export class MissingDependencyError extends kind("MissingDependencyError") {}

/** An inference engine refused the model or failed. */
export class EngineError extends kind("EngineError") {}

/** This browser does not compute the outputs of the export. */
export class VerificationError extends kind("VerificationError") {}

/** A bundle is damaged, incomplete, manipulated or of another version. */
export class BundleError extends kind("BundleError") {}

/** Return the first line of what an engine or the browser threw. */
export function reason(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.split("\n", 1)[0]!.slice(0, 300);
}

/** The hint where a file is damaged or wrong. */
export const AGAIN = "copy or export the bundle again";

/** Return the beginning of a text from elsewhere, for a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}
