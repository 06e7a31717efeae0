/** From what a page holds (a file, an image element, a bitmap, raw pixels) to upright pixels of one or three channels. */
import { reason, UsageError } from "./errors.js";
import { latin1 } from "./files.js";
import type { Preprocess } from "./preprocess.js";
import { floor, max, min, type Pixels } from "./resample.js";
import { checkPixels } from "./sizing.js";

/** Decoded pixels, (height, width, channels) uint8: gray (1), RGB (3) or RGBA (4, not premultiplied). */
export interface RawPixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

export type Picture = Blob | ImageBitmapSource | RawPixels;

/** The hint where decoded pixels help. */
const PIXELS = "{data, width, height} with gray, RGB or RGBA bytes, line by line";
/** Pixels that are copied out of a canvas at a time: 16 MB. */
const STRIP = 1 << 22;
const OPTIONS: ImageBitmapOptions = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };

/**
 * Return a picture's pixels with the channels that `form` reads.
 *
 * The browser decodes: without conversion of colors, upright by its EXIF orientation. `UsageError`: `image-empty`,
 * `image-format` (the browser cannot decode it), `image-too-large`, `image-array`, `image-type`, `image-transparent`.
 */
export async function pixelsOf(picture: Picture, form: Preprocess, maxPixels: number): Promise<Pixels> {
  if (isRaw(picture)) return converted(checkedRaw(picture, maxPixels), form);
  if (typeof createImageBitmap !== "function") {
    throw new UsageError(
      "there is no decoder of pictures here", PIXELS,
      "image-type",
    );
  }
  if (picture instanceof Blob && picture.size === 0) {
    throw new UsageError("the picture is empty (0 bytes)", "copy or download it again", "image-empty");
  }
  const isGif = await checkFile(picture);
  const bitmap = await decoded(picture);
  try {
    checkPixels(bitmap.width, bitmap.height, maxPixels);
    return drawn(bitmap, form, isGif);
  } finally {
    if (bitmap !== picture) bitmap.close();
  }
}

function isRaw(picture: unknown): picture is RawPixels {
  return picture !== null && typeof picture === "object" && "data" in picture && "width" in picture && "height" in picture;
}

function checkedRaw(raw: RawPixels, maxPixels: number): Pixels {
  const { data, width, height } = raw;
  const sides = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
  const channels = sides ? data.length / (width * height) : 0;
  const bytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
  if (!bytes || ![1, 3, 4].includes(channels)) {
    throw new UsageError(
      `pixels must be width x height x 1, 3 or 4 bytes, not ${data?.length} for ${width} x ${height}`,
      PIXELS,
      "image-array",
    );
  }
  checkPixels(width, height, maxPixels);
  return { data, width, height, channels };
}

/** The EXIF entry of an orientation other than upright, in either order of bytes. */
const TURNED = /\x12\x01\x03\0\x01\0\0\0[\x02-\x08]|\x01\x12\0\x03\0\0\0\x01\0[\x02-\x08]/;

/** Refuse a file that browsers turn or not, as they like; return whether it is a GIF. */
async function checkFile(picture: ImageBitmapSource): Promise<boolean> {
  const start = (length?: number) => (picture as Blob).slice(0, length).arrayBuffer().then((buffer) => latin1(new Uint8Array(buffer)));
  const head = picture instanceof Blob ? await start(21) : "";
  if (/^RIFF[^]{4}WEBPVP8X/.test(head) && head.charCodeAt(20) & 8 && TURNED.test(await start())) {
    throw new UsageError("browsers ignore the orientation of WebP files", "save the picture upright, or as JPEG", "image-format");
  }
  return head.startsWith("GIF");
}

async function decoded(picture: ImageBitmapSource): Promise<ImageBitmap> {
  if (typeof ImageBitmap === "function" && picture instanceof ImageBitmap) return picture;
  try {
    return await createImageBitmap(picture, OPTIONS);
  } catch (error) {
    if (error instanceof TypeError) {
      throw new UsageError(
        `this is no picture: ${reason(error)}`, `give a file, an image, a bitmap, or ${PIXELS}`, "image-type",
      );
    }
    throw new UsageError(
      `the browser cannot decode the picture: ${reason(error)}`,
      "copy it again, or save it as JPEG or PNG",
      "image-format",
    );
  }
}

/** Read a bitmap through a canvas, strip by strip, without its alpha. */
function drawn(bitmap: ImageBitmap, form: Preprocess, isGif: boolean): Pixels {
  const { width, height } = bitmap;
  const { channels } = form;
  const lines = max(1, min(height, floor(STRIP / width)));
  const context = new OffscreenCanvas(width, lines).getContext("2d", { willReadFrequently: true })!;
  const data = new Uint8Array(width * height * channels);
  for (let top = 0; top < height; top += lines) {
    const count = min(lines, height - top);
    context.clearRect(0, 0, width, lines);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    const strip = { data: context.getImageData(0, 0, width, count).data, width, height: count, channels: 4 };
    if (hasAlpha(strip.data)) {
      if (isGif && form.background === "drop") throw transparent("of a GIF", "PNG or JPEG");
      return converted(throughWebGl(bitmap), form);
    }
    data.set(converted(strip, form).data, top * width * channels);
  }
  return { data, width, height, channels };
}

function hasAlpha(rgba: Uint8ClampedArray): boolean {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

function transparent(which: string, form: string): UsageError {
  return new UsageError(`this browser cannot read the colors of transparent pixels ${which}`, `save the picture as ${form}`, "image-transparent");
}

/** A canvas multiplies colors by their alpha, which loses bits; a texture keeps the bytes of the file. */
function throughWebGl(bitmap: ImageBitmap): Pixels {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  const most = gl === null ? 0 : (gl.getParameter(gl.MAX_TEXTURE_SIZE) as number);
  if (gl === null || width > most || height > most) {
    throw transparent("of this many lines", "JPEG, without transparency");
  }
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap); // a bitmap is taken as it is
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return { data, width, height, channels: 4 };
}

/** Lay transparent pixels over the background, and convert to gray (ITU-R 601 luma, as Pillow rounds it) or RGB. */
function converted(from: Pixels, form: Preprocess): Pixels {
  const { channels, background } = form;
  const { width, height } = from;
  if (from.channels === channels) return from;
  const data = new Uint8Array(width * height * channels);
  const under = background === "white" ? 255 : 0;
  const over = from.channels === 4 && background !== "drop";
  const [g, b] = from.channels === 1 ? [0, 0] : [1, 2];
  for (let i = 0, at = 0; i < data.length; i += channels, at += from.channels) {
    let [red, green, blue] = [from.data[at]!, from.data[at + g]!, from.data[at + b]!];
    if (over) {
      const alpha = from.data[at + 3]!;
      [red, green, blue] = [blend(red, under, alpha), blend(green, under, alpha), blend(blue, under, alpha)];
    }
    if (channels === 1) data[i] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    else {
      data[i] = red;
      data[i + 1] = green;
      data[i + 2] = blue;
    }
  }
  return { data, width, height, channels };
}

/** Pillow's paste with a mask. */
function blend(color: number, under: number, alpha: number): number {
  const sum = under * (255 - alpha) + color * alpha + 128;
  return ((sum >> 8) + sum) >> 8;
}
