// The page at "/": sends an image to this server, shows the answer and what it rests on.
// Addresses are relative, so that a proxy may put the server under a path of its own. Whatever
// comes from the server is put in as text.

const POLL_MS = 2000; // between two looks at the server's counters
const WINDOW = 30; // looks that the live strip goes back: a minute
const FRAME_PX = 640; // longest side of a camera frame that is sent
const RUNS = 5; // of each side, where the single network is measured
const KEY = "adaptive-key"; // where the tab keeps the bearer key
const NAMED = 5; // classes that are named where a bundle has many
const SAMPLES = { // what is offered with the default that ships with the server
  "sample-cat.jpg": "a cat",
  "sample-ship.jpg": "a drawn ship",
  "sample-horse.jpg": "a horse in outline",
  "sample-coffee.jpg": "a cup of coffee: none of the classes",
};

const $ = (id) => document.getElementById(id);

const bundle = { candidates: [], policy: { candidates: [] } }; // what /v1/bundle says
let single = null; // the best single network: { name, ms, how }
let running = null; // AbortController of the request in flight
let last = null; // the image that was asked about last
let answered = null; // its answer

// ---- elements

/** An element with attributes and children; a child that is no element is text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function row(...cells) {
  return element("tr", {}, ...cells);
}

function head(...children) {
  return element("th", { scope: "row" }, ...children);
}

function cell(...children) {
  return element("td", {}, ...children);
}

/** A horizontal bar, `share` of its track long. */
function bar(share, kind = "c0") {
  const own = element("i", { class: kind });
  own.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  return element("span", { class: "bar", "aria-hidden": "true" }, own);
}

/** Segments beside each other; `parts` are [share, class]. */
function fill(stack, parts) {
  stack.replaceChildren(...parts.filter(([share]) => share > 0).map(([share, kind]) => {
    const own = element("i", { class: kind });
    own.style.width = `${100 * share}%`;
    return own;
  }));
}

function swatch(kind) {
  return element("span", { class: `swatch ${kind}`, "aria-hidden": "true" });
}

/** The colour of a candidate: those that the policy asks come first. */
function colour(name) {
  const others = bundle.candidates.map((c) => c.name);
  const order = [...new Set([...bundle.policy.candidates, ...others])];
  const place = order.indexOf(name.replace(/:through$/, ""));
  return place < 0 ? "rest" : `c${place % 6}`;
}

const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;
const points = (share) => `${share > 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(1)} points`;
const times = (ms) => ms.toFixed(ms < 10 ? 2 : 1);
const value = (number) => Number(number.toPrecision(3)).toString();
const listed = (names) =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

// ---- the server

/** What the server refused, in its own sentence. */
class Refusal extends Error {
  constructor(status, sentence, waitS) {
    super(sentence);
    this.status = status;
    this.waitS = waitS;
  }
}

/** Ask the server for something; the Response when it is fine. */
async function ask(path, options = {}) {
  const key = stored();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const sent = options.body instanceof Blob ? options.body.size / 1e6 : 0;
    const large = sent > 5 ? ` Perhaps the image, ${sent.toFixed(0)} MB, is too large for it.` : "";
    throw new Refusal(0, `The server did not answer.${large}`);
  }
  if (response.ok) return response;
  let sentence = `The server answered ${response.status}.`;
  try {
    sentence = (await response.json()).error ?? sentence;
  } catch {
    // a proxy's page, which is no sentence
  }
  if (response.status === 401) wantKey();
  throw new Refusal(response.status, sentence, Number(response.headers.get("Retry-After")) || 0);
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // the browser keeps nothing for this page
  }
}

function wantKey() {
  const form = $("key-form");
  $("key-title").textContent = stored() ? "The server does not accept this key" : "This server wants a key";
  if (!form.hidden) return;
  form.hidden = false;
  $("key").focus();
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $("key-title").textContent = "A key has letters, digits and signs, and no spaces";
    return;
  }
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    tell("The browser keeps nothing for this page, so the key cannot be used.");
    return;
  }
  $("key").value = "";
  $("key-form").hidden = true;
  $("choose").focus();
  await describe();
  if (!$("key-form").hidden) return;
  tell("");
  poll();
  if (last !== null && answered === null) begin(last);
});

// ---- what is served

async function describe() {
  try {
    Object.assign(bundle, await (await ask("v1/bundle")).json());
  } catch (error) {
    $("serving").textContent = error.status === 401 ? "It shows what it serves only to those who have a key." : error.message;
    return;
  }
  const policy = bundle.policy;
  const promise = bundle.certificate;
  const words = [`The ${policy.kind} policy may ask ${listed(policy.candidates)}.`];
  if (promise && typeof promise.epsilon === "number" && typeof promise.delta === "number") {
    const points = Number((100 * promise.epsilon).toFixed(2));
    words.push(
      `Certified with ${percent(1 - promise.delta)} confidence: at most ${points} ` +
      `${points === 1 ? "point" : "points"} of accuracy below ${promise.reference}.`);
  }
  $("serving").textContent = words.join(" ");
  showClasses();
  const name = bundle.reference ?? policy.candidates.at(-1);
  single = { name, ms: planned(name), how: "as measured when the bundle was made" };
  $("compare").textContent = `Measure against ${name} alone`;
  showConditions();
  await look();
}

/** Whether the bundle finds boxes instead of naming a class. */
function detects() {
  return bundle.task === "detect";
}

/** What is told of live images' conditions now. */
async function countConditions() {
  bundle.conditions = (await (await ask("v1/bundle")).json()).conditions;
  showConditions();
}

/** The conditions that images are taken under: how common before, how common now. */
function showConditions() {
  const told = bundle.conditions ?? null;
  $("conditions-card").hidden = told === null;
  if (told === null) return;
  $("conditions-about").textContent = "What the premodel tells apart without labels." +
    (told.of ? "" : " The bundle does not say how common each was among its own images.") +
    (told.words ? "" : " Live images are not counted.");
  $("conditions-now").textContent = told.words
    ? `${told.words.charAt(0).toUpperCase()}${told.words.slice(1)}.` : "";
  $("conditions-now").classList.toggle("changed", Boolean(told.goes_on));
  $("conditions-before").textContent = told.of === "training" ? "In training" : "At calibration";
  const under = new Map((answered?.explanation?.conditions ?? []).map((own) =>
    [own.description, own.probability]));
  const pictured = told.conditions.some((own) => own.examples?.length);
  $("conditions-examples").hidden = !pictured;
  const share = (own, digits = 0) => cell(own === null || own === undefined ? "–" : percent(own, digits));
  $("conditions").tBodies[0].replaceChildren(...told.conditions.map((own) => {
    const mine = under.get(own.description);
    const made = row(head(own.description), share(own.share), share(own.live), share(own.recent),
      share(mine));
    if (pictured) {
      made.append(cell(...own.examples.map((src) =>
        element("img", { src, alt: `An image that is ${own.description}` }))));
    }
    if (mine !== undefined && mine === Math.max(...under.values())) made.className = "under";
    return made;
  }));
}

/** Which classes there are, since an image of anything else is taken for one of them. */
function showClasses() {
  const names = (bundle.first_labels ?? []).map((label) => label.replace(/^n\d{8} /, "").split(",")[0]);
  const all = bundle.labels === names.length;
  $("classes").textContent = bundle.labels === 1 ? `It knows one class: ${names[0]}.`
    : `It knows ${bundle.labels.toLocaleString("en")} classes` +
      (all ? `: ${listed(names)}.` : `, such as ${listed(names.slice(0, NAMED))}.`) +
      (detects() ? " It finds where they are, and sees nothing else."
        : " Whatever an image shows, it names one of these.");
  $("shoot").textContent = detects() ? "Find objects" : "Classify";
  $("classes").hidden = names.length === 0;
  $("samples").hidden = $("sources-of-samples").hidden = !bundle.embedded;
  if (!bundle.embedded || $("samples").querySelector("button")) return;
  $("samples").append(...Object.entries(SAMPLES).map(([file, what]) => {
    const button = element("button", { type: "button" },
      element("img", { src: file, alt: "" }), element("span", {}, what));
    button.addEventListener("click", () => sample(file).catch((error) => tell(error.message)));
    return button;
  }));
}

async function sample(file) {
  const image = await (await ask(file)).blob();
  begin(new File([image], file, { type: image.type }));
}

/** Milliseconds of a network by itself as the bundle has them, exits before it included. */
function planned(name) {
  let total = 0;
  for (let at = name; at; ) {
    const own = bundle.candidates.find((candidate) => candidate.name === at);
    if (!own || own.ms === null) return null;
    total += own.ms;
    at = own.after;
  }
  return total;
}

/** How often the single network was asked by itself, and the nanoseconds that took. */
async function counted() {
  const path = `v2/models/${encodeURIComponent(single.name)}/stats`;
  const [own] = (await (await ask(path)).json()).model_stats;
  return own.inference_stats.compute_infer;
}

/** Prefer what was measured on this server. */
async function look() {
  try {
    const { count, ns } = await counted();
    if (count > 0) {
      single.ms = ns / count / 1e6;
      single.how = `measured here, the mean of ${count} ${count === 1 ? "request" : "requests"}`;
    }
  } catch {
    // the bundle's own number stays
  }
}

// ---- one image

/** Ask about one image; whatever is still asked about is given up. True when it was answered. */
async function classify(image, ofCamera = false) {
  running?.abort();
  const own = (running = new AbortController());
  last = image;
  answered = null;
  if (!ofCamera) {
    stopCamera();
    preview(image);
    tell("");
    $("compared").textContent = "";
  }
  state("Asking…");
  for (const card of document.querySelectorAll(".answered")) card.classList.add("stale");
  const began = performance.now();
  try {
    const options = { method: "POST", body: image, headers: preference(), signal: own.signal };
    const answer = await (await ask(detects() ? "v1/detect?explain=1" : "v1/classify?explain=2", options)).json();
    if (own !== running) return false;
    answered = answer;
    tell("");
    state(`Answered in ${times(performance.now() - began)} ms, sending included.`);
    show(answer);
    return true;
  } catch (error) {
    if (own !== running || error.name === "AbortError") return false;
    state("");
    clear();
    refused(error, image);
    throw error;
  } finally {
    if (own === running) running = null;
  }
}

function preference() {
  const prefer = document.querySelector("input[name=prefer]:checked").value;
  return prefer === "balanced" ? {} : { "X-Prefer": prefer };
}

/** Ask from an event, where nobody waits for the end. */
function begin(image) {
  classify(image).catch(() => {}); // it is told on the page
}

function refused(error, image) {
  const busy = error.status === 503;
  const wait = busy && error.waitS ? ` Try again in ${error.waitS} s.` : "";
  const sentence = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  tell(`${sentence.replace(/([^.!?…])$/, "$1.")}${wait}`);
  if (error.status !== 0 && !busy) return;
  const again = element("button", { type: "button" }, "Try again");
  again.addEventListener("click", () => begin(image));
  $("problem").append(again);
}

function tell(sentence) {
  $("problem").replaceChildren(...(sentence ? [element("p", {}, sentence)] : []));
}

function state(sentence) {
  $("state").textContent = sentence;
}

function preview(image) {
  const picture = $("picture");
  if (picture.src) URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(image);
  picture.alt = image.name ? `Your image, ${image.name}` : "Your image";
  $("shown").hidden = picture.hidden = false;
  $("frame").hidden = $("boxes").hidden = true;
  $("drop").classList.add("full");
}

$("picture").addEventListener("error", () => {
  $("shown").hidden = true; // no picture, or none that this browser can draw
  $("drop").classList.remove("full");
});

// ---- the answer

function clear() {
  for (const card of document.querySelectorAll(".answered")) card.hidden = true;
  for (const id of ["why", "edges-card", "frame", "frame-hint", "boxes"]) $(id).hidden = true;
  $("empty").hidden = false;
}

function show(answer) {
  $("empty").hidden = true;
  for (const card of document.querySelectorAll(".answered")) {
    card.hidden = false;
    card.classList.remove("stale");
  }
  if (answer.boxes) showBoxes(answer);
  else showAnswer(answer);
  $("boxes").hidden = !answer.boxes;
  showWay(answer);
  showTimes(answer);
  showWhy(answer);
  showConditions();
  showEdges(answer.explanation?.edges);
}

function showAnswer(answer) {
  const abstained = answer.label === null;
  $("label").textContent = abstained ? "No answer" : answer.label;
  const unsure = abstained && answer.top5.length > 0; // there is a guess, for a person to judge
  const none = unsure
    ? `Too unsure to answer. The best guess is ${answer.top5[0].label}, ${percent(answer.score, 1)} sure: a person should look.`
    : "The policy abstained.";
  const by = abstained
    ? [none]
    : [`${percent(answer.score, 1)} sure, answered by `, swatch(colour(answer.candidate)),
      element("b", {}, answer.candidate)];
  $("by").replaceChildren(...by);
  $("sure").textContent = answer.top5.length === 0 ? ""
    : answer.calibrated ? "A calibrated probability: of answers that are 80% sure, say, eight in ten are right."
      : "Not calibrated: it is what the network says, which is often too sure.";
  const [under] = answer.explanation?.conditions ?? [];
  $("under").hidden = under === undefined;
  $("under").textContent = under === undefined ? ""
    : `Judged as an image that is “${under.description}” (${percent(under.probability)}).`;
  $("reason").textContent = `${answer.reason.charAt(0).toUpperCase()}${answer.reason.slice(1)}.`;
  const kind = abstained ? "rest" : colour(answer.candidate);
  $("best").tBodies[0].replaceChildren(...answer.top5.map(({ label, score }) =>
    row(head(label), cell(bar(score, kind)), cell(percent(score, 1)))));
  const said = abstained
    ? `No answer. ${none}`
    : `${answer.label}, ${percent(answer.score)} sure, answered by ${answer.candidate}.`;
  if ($("said").dataset.label !== (answer.label ?? "") || camera === null) {
    $("said").textContent = said; // of a camera's pictures only a new answer is read out
  }
  $("said").dataset.label = answer.label ?? "";
}

/** Boxes on the image, what is in them, and who found them. */
function showBoxes(answer) {
  const [width, height] = answer.size;
  const found = answer.labels.map((label, place) =>
    ({ label, score: answer.scores[place], box: answer.boxes[place],
      kind: `c${answer.classes[place] % 6}` }));
  $("boxes").replaceChildren(...found.map(({ label, score, box: [x1, y1, x2, y2], kind }) => {
    const words = element("i", {}, `${label} ${percent(score)}`);
    const own = element("span", { class: kind }, element("b", {}, words));
    Object.assign(own.style, {
      left: percent(x1 / width, 2), top: percent(y1 / height, 2),
      width: percent((x2 - x1) / width, 2), height: percent((y2 - y1) / height, 2),
    });
    return own;
  }).reverse()); // the surest on top
  const what = answer.abstained ? "No answer" : summed(answer.labels);
  $("label").textContent = what;
  $("by").replaceChildren(...(answer.abstained ? ["The policy abstained."]
    : ["Found by ", swatch(colour(answer.candidate)), element("b", {}, answer.candidate),
      `, expected to be ${percent(answer.sure)} right`]));
  $("reason").textContent = `${answer.reason.charAt(0).toUpperCase()}${answer.reason.slice(1)}.`;
  $("best-caption").textContent = "What was found, the surest first";
  $("best").tBodies[0].replaceChildren(...found.map(({ label, score, kind }) =>
    row(head(label), cell(bar(score, kind)), cell(percent(score, 1)))));
  if ($("said").dataset.label !== what || camera === null) {
    $("said").textContent = answer.abstained ? "No answer." : `${what}, found by ${answer.candidate}.`;
  }
  $("said").dataset.label = what;
}

/** How many there are of each, the most first: "2 person, 1 dog". */
function summed(labels) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const order = [...counts].sort((a, b) => b[1] - a[1]);
  return order.map(([label, count]) => `${count} ${label}`).join(", ") || "Nothing found";
}

function showWay(answer) {
  const steps = answer.explanation?.steps ?? answer.path.map((candidate) => ({ candidate }));
  const asked = new Map(steps.map((step, place) => [step.candidate, place]));
  const names = [...new Set([...bundle.policy.candidates, ...asked.keys()])];
  $("way").replaceChildren(...names.map((name) => {
    const place = asked.get(name);
    if (place === undefined) {
      return element("li", { class: "skipped" },
        element("div", { class: "name" }, name, element("span", {}, "not asked")),
        ...(planned(name) === null ? [] : [element("p", {}, `takes ${times(planned(name))} ms`)]));
    }
    const step = steps[place];
    const ms = answer.ms[name];
    const item = element("li", { class: colour(name) },
      element("div", { class: "name" }, name,
        element("span", {}, ms === undefined ? "" : `${times(ms)} ms`)));
    if (step.label !== undefined) {
      item.append(element("p", {}, `${step.label}, ${percent(step.score, 1)}`));
      item.append(...judged(step, steps[place + 1]));
    }
    return item;
  }));
  const mean = bundle.policy.combine;
  const notes = [];
  if (steps.some((step) => step.gains)) {
    notes.push("Points: by how much a right answer gets more likely, less the price of the time.");
  }
  if (steps.length > 1 && mean) {
    notes.push(`The answer is the ${mean} mean of what these networks say.`);
  }
  $("notes").textContent = notes.join(" ");
}

/** A step's signal against what it was held against, drawn and in words. */
function judged(step, next) {
  if (step.value === null) return [];
  const own = element("i");
  own.style.width = percent(Math.min(Math.max(step.value, 0), 1), 1);
  const meter = element("div", { class: "meter", "aria-hidden": "true" }, own);
  const signal = `${step.signal} ${step.value.toFixed(2)}`;
  let why = signal;
  if (step.gains !== null) {
    const best = step.gains.reduce((a, b) => (b.gain > a.gain ? b : a));
    const pays = best.gain > 0;
    const but = pays === Boolean(next) ? ""
      : pays ? ", but your preference or a limit ruled it out" : ", but you prefer an accurate answer";
    why = `${signal}: asking ${best.ask.join(", then ")} as well is ${pays ? "" : "not "}worth its ` +
      `time (${points(best.gain)})${but}`;
  } else if (step.threshold !== null) {
    const mark = element("b");
    mark.style.left = percent(Math.min(Math.max(step.threshold, 0), 1), 1);
    meter.append(mark);
    const below = step.value < step.threshold;
    why = `${signal}, ${below ? "below" : "not below"} ${step.threshold.toFixed(2)}: ` +
      (next ? `${next.candidate} is asked` : below ? "a limit allows no more" : "sure enough");
  }
  return [meter, element("p", { class: "why" }, why)];
}

function showTimes(answer) {
  const extra = new Set(answer.explanation?.extra ?? []);
  const { total, ...parts } = answer.ms;
  const steps = Object.entries(parts);
  const rest = Math.max(0, total - steps.reduce((sum, [, ms]) => sum + ms, 0));
  steps.push(["rest", rest]);
  const kept = steps.filter(([step]) => !extra.has(step));
  const whole = kept.reduce((sum, [, ms]) => sum + ms, 0);
  const known = single !== null && single.ms !== null;
  const alone = known ? parts.decode + single.ms : 0;
  const longest = Math.max(whole, alone);
  const lane = (name, own) => {
    const stack = element("div", { class: "stack" });
    fill(stack, own.map(([step, ms]) => [ms / longest, kind(step)]));
    return element("div", { class: "lane" }, element("span", {}, name), stack);
  };
  const lanes = [lane(`this image, ${times(whole)} ms`, kept)];
  if (known) {
    lanes.push(lane(`${single.name} alone, ${times(alone)} ms`,
      [["decode", parts.decode], [single.name, single.ms]]));
  }
  $("stacks").replaceChildren(...lanes);
  $("saving").textContent = known ? compared(whole, alone) : "";
  $("single-head").textContent = known ? `${single.name} alone` : "";
  const other = { decode: known ? parts.decode : 0, ...(known ? { [single.name]: single.ms } : {}) };
  const named = new Set([...Object.keys(parts), ...Object.keys(other), "rest"]);
  const body = [...named].map((step) => {
    const ms = step === "rest" ? rest : parts[step];
    const note = extra.has(step) ? " (for this page only)" : "";
    return row(head(swatch(kind(step)), `${step}${note}`), cell(ms === undefined ? "" : times(ms)),
      cell(known && other[step] !== undefined ? times(other[step]) : ""));
  });
  const sum = row(head("together"), cell(times(whole)), cell(known ? times(alone) : ""));
  sum.className = "sum";
  $("times").tBodies[0].replaceChildren(...body, sum);
  $("single-how").textContent = known ? `${single.name}: ${single.how}.` : "";
  $("compare").hidden = single === null || camera !== null;
}

function kind(step) {
  return ["decode", "features", "premodel", "rest"].includes(step) ? step : colour(step);
}

function compared(whole, alone) {
  const ratio = alone / whole;
  if (ratio >= 1.05) {
    return `${times(whole)} ms, where ${single.name} alone takes ` +
      `${times(alone)}: ${ratio.toFixed(1)} times as fast.`;
  }
  if (ratio > 0.95) return `${times(whole)} ms, as long as ${single.name} alone.`;
  return `${times(whole)} ms: for this image ${single.name} alone, ${times(alone)} ms, ` +
    "would have been faster.";
}

// Both sides take turns, so that a machine that is busy for a moment is so for both.
$("compare").addEventListener("click", async () => {
  const image = last;
  const button = $("compare");
  button.disabled = true;
  $("compared").textContent = "Measuring…";
  try {
    const data = await base64(image);
    const own = [];
    const alone = [];
    let said;
    const path = detects() ? "v1/detect" : "v1/classify";
    for (let run = 0; run < RUNS; run++) {
      const options = { method: "POST", body: image, headers: preference() };
      own.push((await (await ask(path, options)).json()).ms);
      const before = await counted();
      said = await askSingle(data);
      const after = await counted();
      alone.push((after.ns - before.ns) / (after.count - before.count) / 1e6);
      if (image !== last || answered === null) return;
    }
    single.ms = median(alone);
    single.how = `measured here, the median of ${RUNS} runs`;
    answered.ms = medians(own);
    showWay(answered);
    showTimes(answered);
    $("compared").textContent =
      `${single.name} alone says ${said}. Both times are medians of ${RUNS} runs in turn.`;
  } catch (error) {
    $("compared").textContent = error.message;
  } finally {
    button.disabled = false;
  }
});

/** What the single network says of an image, in words. */
async function askSingle(data) {
  const outputs = [detects() ? { name: "labels" }
    : { name: "probabilities", parameters: { classification: 1 } }];
  const inputs = [{ name: "image", datatype: "BYTES", shape: [1], data: [data] }];
  const path = `v2/models/${encodeURIComponent(single.name)}/infer`;
  const body = JSON.stringify({ inputs, outputs });
  const headers = { "Content-Type": "application/json" };
  const answer = await (await ask(path, { method: "POST", headers, body })).json();
  if (detects()) return summed(answer.outputs[0].data);
  const [score, , ...label] = answer.outputs[0].data[0].split(":");
  return `${label.join(":")}, ${percent(Number(score), 1)}`;
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Milliseconds of several runs, step by step; the total is what the steps come to. */
function medians(runs) {
  const found = { total: 0 };
  const steps = Object.keys(runs[0]).filter((step) => step !== "total");
  for (const step of steps) found[step] = median(runs.map((ms) => ms[step] ?? 0));
  const rests = runs.map((ms) => ms.total - steps.reduce((sum, step) => sum + (ms[step] ?? 0), 0));
  found.total = steps.reduce((sum, step) => sum + found[step], Math.max(0, median(rests)));
  return found;
}

/** The bytes of a blob as base64 text. */
async function base64(blob) {
  const reader = new FileReader();
  const done = new Promise((resolve, reject) => {
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
  });
  reader.readAsDataURL(blob);
  return (await done).split(",")[1];
}

// ---- what the premodel saw

function showWhy(answer) {
  const told = answer.explanation;
  const features = answer.features ?? null;
  $("why").hidden = features === null;
  if (features === null) return;
  const standing = told?.standing;
  const among = standing?.among === "images";
  $("features-caption").textContent = !standing ? "Their values."
    : among ? "Bar: share of the premodel’s training images that have a lower value."
      : "Bar: where the value lies between its lowest and highest possible one.";
  $("features").tBodies[0].replaceChildren(...Object.entries(features).map(([name, own]) => {
    const share = standing?.shares[name];
    const words = share !== undefined && among ? element("small", {}, ranked(share)) : null;
    return row(head(name.replaceAll("_", " ")), cell(share === undefined ? "" : bar(share, "features")),
      cell(value(own), words));
  }));
  $("extra").textContent = told?.extra.includes("features")
    ? "Computed for this page only; the policy does not use them." : "";
  showVotes(answer.votes, told?.neighbours);
}

function ranked(share) {
  if (share > 0.995) return "more than all";
  if (share < 0.005) return "less than all";
  return `more than ${percent(share)}`;
}

function showVotes(votes, neighbours) {
  const count = neighbours?.distances.length ?? 0;
  $("votes-title").textContent = count ? "The nearest neighbours’ votes" : "The premodel’s votes";
  $("votes-caption").textContent = count
    ? `The ${count} training images most like this one, nearest first; filled where the candidate was right.`
    : "The chance that each candidate is right.";
  const names = Object.keys(votes ?? neighbours?.right ?? {});
  $("votes-half").hidden = names.length === 0;
  $("votes").tBodies[0].replaceChildren(...names.map((name) => {
    const right = neighbours?.right[name];
    const chance = votes?.[name] ?? right.filter(Boolean).length / count;
    const drawn = right && count <= 100 ? crowd(right, colour(name)) : bar(chance, colour(name));
    const words = right ? element("small", {}, `${right.filter(Boolean).length} of ${count}`) : null;
    return row(head(name), cell(drawn), cell(percent(chance), words));
  }));
}

function crowd(right, own) {
  const marks = right.map((yes) => element("i", { class: yes ? own : "wrong" }));
  return element("span", { class: "crowd", "aria-hidden": "true" }, ...marks);
}

function showEdges(edges) {
  $("edges-card").hidden = $("frame").hidden = $("frame-hint").hidden = !edges;
  if (!edges) return;
  $("edges").src = `data:image/png;base64,${edges.png}`;
  const [left, top, width, height] = edges.area;
  Object.assign($("frame").style, {
    left: percent(left, 2), top: percent(top, 2), width: percent(width, 2), height: percent(height, 2),
  });
}

// ---- where images come from

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  const [image] = $("file").files;
  if (image) begin(image);
  $("file").value = "";
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) $("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault(); // wherever it falls, the browser does not leave the page for it
  $("drop").classList.remove("over");
  const [image] = event.dataTransfer.files;
  if (image) begin(image);
  else tell("That was no file. Drop an image file, or copy the image and paste it here.");
});
addEventListener("paste", (event) => {
  const [image] = event.clipboardData.files;
  if (image) begin(image);
});
for (const radio of document.querySelectorAll("input[name=prefer]")) {
  radio.addEventListener("change", () => {
    if (last !== null && camera === null) begin(last);
  });
}
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!$("key-form").hidden) $("key-form").hidden = true;
  else if (camera !== null) stopCamera(true);
  else if (running !== null) {
    running.abort();
    running = null;
    state("Cancelled.");
    clear();
  }
});

// ---- the camera

let camera = null; // its MediaStream

if (!navigator.mediaDevices?.getUserMedia) {
  $("camera").hidden = true;
  $("no-camera").hidden = false;
  $("no-camera").textContent = isSecureContext
    ? "This browser has no camera for pages."
    : "No camera: browsers give it to a page only over https, or from the machine itself. " +
      "On most phones “Choose a file” can take a photograph all the same.";
}

$("camera").addEventListener("click", async () => {
  try {
    const video = { facingMode: { ideal: "environment" }, width: { ideal: FRAME_PX } };
    camera = await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    tell({ NotAllowedError: "The browser was not allowed to use the camera.",
      NotFoundError: "There is no camera.",
      NotReadableError: "The camera is used by another program." }[error.name] ??
      `The camera cannot be used: ${error.message}`);
    return;
  }
  running?.abort();
  running = null;
  tell("");
  state("");
  clear();
  const video = $("video");
  video.srcObject = camera;
  camera.getVideoTracks()[0].addEventListener("ended", () => stopCamera());
  $("picture").hidden = true;
  $("shown").hidden = video.hidden = $("camera-row").hidden = false;
  $("sources").hidden = true;
  $("drop").classList.add("full");
  await video.play();
  $("shoot").focus();
});

function stopCamera(focus = false) {
  if (camera === null) return;
  for (const track of camera.getTracks()) track.stop();
  camera = null;
  pressed($("continuous"), false);
  $("video").srcObject = null;
  $("video").hidden = $("camera-row").hidden = true;
  $("sources").hidden = false;
  $("shown").hidden = $("frame").hidden = $("boxes").hidden = true;
  $("drop").classList.remove("full");
  running?.abort();
  running = null;
  if (focus) $("camera").focus();
}

$("stop").addEventListener("click", () => stopCamera(true));
$("shoot").addEventListener("click", () => shoot().catch(() => {}));
$("continuous").addEventListener("click", () => {
  const on = !isPressed($("continuous"));
  pressed($("continuous"), on);
  if (on) continuously();
});

/** Classify what the camera sees now. */
async function shoot() {
  const video = $("video");
  if (camera === null || !video.videoWidth) return;
  const scale = Math.min(1, FRAME_PX / Math.max(video.videoWidth, video.videoHeight));
  const canvas = element("canvas");
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const image = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
  if (camera !== null && image !== null) await classify(image, true);
}

let looping = false;

/** One picture after another, the next when the last is answered. */
async function continuously() {
  if (looping) return;
  looping = true;
  while (camera !== null && isPressed($("continuous"))) {
    let waitMs = 100;
    try {
      if (!document.hidden) await shoot();
    } catch (error) {
      if (error.status !== 503) pressed($("continuous"), false);
      waitMs = Math.max(1, error.waitS || 0) * 1000;
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
  looping = false;
}

function pressed(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

function isPressed(button) {
  return button.getAttribute("aria-pressed") === "true";
}

// ---- the live strip

const looks = []; // what the counters said, oldest first
let turn = 0; // of the loop that looks; an older one ends
let polling = null; // timer of the next look
let served = null; // which bundle the counters are about

$("pause").addEventListener("click", () => {
  const paused = !isPressed($("pause"));
  pressed($("pause"), paused);
  if (!paused) poll();
});
document.addEventListener("visibilitychange", poll);

/** Look at the counters now, and again and again while the page is seen. */
async function poll() {
  clearTimeout(polling);
  const own = ++turn;
  if (document.hidden || isPressed($("pause")) || !$("key-form").hidden) return;
  try {
    const text = await (await ask("metrics")).text();
    if (own !== turn) return;
    const read = counters(text);
    if (served !== null && served !== read.bundle) await describe();
    else if (read.conditions !== looks.at(-1)?.conditions) await countConditions();
    served = read.bundle;
    const before = looks.at(-1);
    if (before && read.images < before.images) looks.length = 0; // the server began anew
    looks.push(read);
    if (looks.length > WINDOW + 1) looks.shift();
    showLive();
  } catch (error) {
    if (error.status === 401) return; // goes on when there is a key
    $("live-about").textContent = error.status === 404
      ? "This server shows no counters." : error.message;
    if (error.status === 404) return;
  }
  if (own === turn) polling = setTimeout(poll, POLL_MS);
}

/** From Prometheus's text: answers, seconds and runs by candidate, and the queue. */
function counters(text) {
  const read = { answers: {}, sum: {}, count: {}, images: 0, queue: 0, bundle: "",
    conditions: "" };
  const known = { adaptive_answers_total: "answers", adaptive_candidate_seconds_sum: "sum",
    adaptive_candidate_seconds_count: "count" };
  for (const line of text.split("\n")) {
    if (line.startsWith("adaptive_bundle_info{")) read.bundle = line;
    if (line.startsWith("adaptive_condition_images_total{")) read.conditions += line;
    const found = /^(\w+)(?:\{candidate="([^"]*)"\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, family, candidate, number] = found;
    if (family in known) read[known[family]][candidate] = Number(number);
    if (family === "adaptive_queue_depth") read.queue = Number(number);
  }
  read.images = Object.values(read.answers).reduce((sum, own) => sum + own, 0);
  return read;
}

function showLive() {
  const now = looks.at(-1);
  const names = [...new Set([...bundle.policy.candidates, ...Object.keys(now.answers)])];
  const since = looks.length > 1 && now.images > looks[0].images ? looks[0] : null;
  const grown = (part, name) => (now[part][name] ?? 0) - (since?.[part][name] ?? 0);
  const images = now.images - (since?.images ?? 0);
  const seconds = ((looks.length - 1) * POLL_MS) / 1000;
  $("live-about").textContent = (now.images === 0 ? "No image has been answered yet."
    : `${images} ${images === 1 ? "image" : "images"} ` +
      (since ? `in the last ${seconds} s.` : "since the server started.")) +
    (now.queue ? ` ${now.queue} requests wait.` : "");
  fill($("shares"), names.map((name) => [images ? grown("answers", name) / images : 0, colour(name)]));
  $("live-wide").hidden = false;
  const highest = Math.max(...names.flatMap(means).filter((ms) => ms !== null), 1e-9);
  $("live").tBodies[0].replaceChildren(...names.map((name) => {
    const answers = grown("answers", name);
    const runs = grown("count", name);
    const spark = cell(sparkline(name, highest));
    spark.className = "spark";
    return row(head(swatch(colour(name)), name === "none" ? "no answer" : name), cell(answers),
      cell(images ? percent(answers / images) : "–"),
      cell(runs ? times((1000 * grown("sum", name)) / runs) : "–"), spark);
  }));
}

/** A candidate's mean milliseconds between each two looks; null where it did not run. */
function means(name) {
  return looks.slice(1).map((own, place) => {
    const runs = (own.count[name] ?? 0) - (looks[place].count[name] ?? 0);
    return runs ? (1000 * ((own.sum[name] ?? 0) - (looks[place].sum[name] ?? 0))) / runs : null;
  });
}

/** The means drawn, with a gap where there is none; the top is `highest`, the same for all. */
function sparkline(name, highest) {
  const found = means(name);
  const lines = [];
  found.forEach((ms, place) => {
    if (ms === null) return;
    const at = `${WINDOW - found.length + place},${(19 - (18 * ms) / highest).toFixed(1)}`;
    if (place > 0 && found[place - 1] !== null) lines.at(-1).push(at);
    else lines.push([at]);
  });
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${WINDOW} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const line of lines) {
    const drawn = document.createElementNS(space, "polyline");
    const [x, y] = line[0].split(",");
    const points = line.length > 1 ? line : [line[0], `${Number(x) + 0.6},${y}`]; // one look: a dash
    drawn.setAttribute("points", points.join(" "));
    drawn.setAttribute("class", colour(name));
    svg.append(drawn);
  }
  return svg;
}

await describe();
poll();
