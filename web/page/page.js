// The page of `xxdeploy serve` and of `export --target web`: a picture in, the answer of the bundle next to the page out.
import { load, UsageError, XXDeployError } from "./xxdeploy-web.js";

const $ = (id) => document.getElementById(id);
const [file, camera, button, drop] = [$("file"), $("camera"), $("use-camera"), $("drop")];
let model;
let verified = false;
let latest = 0;

function fail(error) {
  $("error").hidden = false;
  $("error").textContent = error instanceof XXDeployError ? String(error) : `error[bug]: ${error?.stack ?? error}`;
  if (!(error instanceof XXDeployError)) console.error(error);
}

function facts(pairs) {
  const terms = pairs.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]);
  $("facts").replaceChildren(...terms);
}

function described(milliseconds) {
  const { session, variant, manifest } = model;
  const size = manifest.files.find(({ path }) => path === variant.model).size;
  const threads = session.engine.endsWith("webgpu") ? "graphics card" : `${session.threads} thread${session.threads > 1 ? "s" : ""}`;
  return [
    ...(milliseconds === undefined ? [] : [["time", `${model.lastMilliseconds.toFixed(1)} ms (with the picture ${milliseconds.toFixed(0)} ms)`]]),
    ["engine", `${session.version}, ${threads}`],
    ["file", `${variant.model}, ${variant.precision}, ${(size / 1e6).toFixed(2)} MB`],
  ];
}

function showClasses(classes) {
  const rows = classes.map(({ label, probability }) => {
    const [row, bar, name, share] = ["li", "i", "span", "span"].map((tag) => document.createElement(tag));
    bar.style.width = `${100 * probability}%`;
    name.textContent = label;
    share.textContent = `${(100 * probability).toFixed(1)} %`;
    row.append(bar, name, share);
    return row;
  });
  $("classes").replaceChildren(...rows);
}

function showPicture({ data, width, height, channels }) {
  const colors = model.labels.length ? Math.max(1, model.labels.length - 1) : 255; // a mask in shades of gray
  const rgba = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = (data[i * channels + (channels === 3 ? c : 0)] * 255) / colors;
    rgba[4 * i + 3] = 255;
  }
  const canvas = Object.assign($("output"), { width, height, hidden: false });
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
}

function showText(text) {
  Object.assign($("text"), { textContent: text, hidden: false });
}

/** How each task is asked, and how its answer is shown. */
const ANSWERS = {
  classification: [(picture) => model.predict(picture, 5), showClasses],
  image: [(picture) => model.image(picture), showPicture],
  sequence: [(picture) => model.read(picture), ({ text, probability }) => showText(`${text}\n${(100 * probability).toFixed(1)} %`)],
  features: [(picture) => model.features(picture), showNumbers],
  values: [(picture) => model.values(picture), showNumbers],
};

function showNumbers({ data, shape }) {
  const first = Array.from(data.subarray(0, 20), (value) => value.toPrecision(4));
  showText(`${shape.join(" x ")}\n${first.join("  ")}${data.length > 20 ? " …" : ""}`);
}

/** Take away what belongs to the picture before, so that no answer stands next to another picture. */
function clear() {
  latest++;
  $("classes").replaceChildren();
  $("output").hidden = $("text").hidden = $("error").hidden = true;
  facts(described());
}

async function answer(picture) {
  const mine = latest;
  const [ask, showAnswer] = ANSWERS[model.manifest.outputs[0].task];
  try {
    const start = performance.now();
    const found = await ask(picture);
    if (mine !== latest) return; // another picture has taken its place
    showAnswer(found);
    facts(described(performance.now() - start));
  } catch (error) {
    if (mine === latest) fail(error);
  }
}

function show(picture) {
  const image = $("shown");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(picture);
  image.hidden = false;
  $("hint").hidden = true;
}

function open(picture) {
  if (!picture || !verified) return;
  stopCamera();
  clear();
  show(picture);
  answer(picture);
}

function stopCamera() {
  for (const track of camera.srcObject?.getTracks() ?? []) track.stop();
  camera.srcObject = null;
  camera.hidden = true;
  button.textContent = "Camera";
}

async function useCamera() {
  if (camera.srcObject === null) {
    clear();
    try {
      camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      await camera.play();
    } catch (error) {
      stopCamera();
      return fail(new UsageError(`the camera gives no picture: ${error.message}`, "allow the camera for this page, or choose a picture", "image-type"));
    }
    camera.hidden = false;
    $("shown").hidden = $("hint").hidden = true;
    button.textContent = "Take the picture";
    return;
  }
  const frame = await createImageBitmap(camera);
  const canvas = new OffscreenCanvas(frame.width, frame.height);
  canvas.getContext("2d").drawImage(frame, 0, 0);
  open(await canvas.convertToBlob({ type: "image/png" }));
}

drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  open(event.dataTransfer.files[0]);
});
file.addEventListener("change", () => open(file.files[0]));
document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
button.addEventListener("click", useCamera);

try {
  model = await load("./", { litertWasm: "web/engine/litert/wasm/", onnxruntimeWasm: "web/engine/onnxruntime/" });
  $("name").textContent = document.title = model.manifest.name;
  if (!(model.manifest.outputs[0].task in ANSWERS) || model.manifest.inputs.length > 1 || model.manifest.inputs[0].form.kind !== "picture") {
    throw new UsageError(`${model.manifest.name} does not read one picture, and this page gives one`, "call model.run() in a page of your own", "not-one-picture");
  }
  const { images } = await model.verify();
  Object.assign($("proof"), { textContent: `verified: ${images} golden pictures, SHA-256 ${model.digest.slice(0, 16)}…`, title: model.digest });
  $("proof").dataset.state = "good";
  facts(described());
  verified = true;
  file.disabled = false;
  button.disabled = !navigator.mediaDevices;
} catch (error) {
  if (!model) $("name").textContent = "This bundle cannot be used";
  $("proof").textContent = "not verified";
  $("proof").dataset.state = "bad";
  fail(error);
}
document.body.dataset.ready = "yes";
