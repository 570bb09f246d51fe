"use strict";
// The front end of experiments. Everything that is shown comes from /api, as text.

const KEY = "adaptive-key";
const POLL_MS = 1000;
const $ = (id) => document.getElementById(id);

const make = (tag, text = "", name = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
};

const stored = () => {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
};

async function send(path, options = {}) {
  const key = stored();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    $("key-title").textContent = key ? "The server does not accept this key" : "This server wants a key";
    $("key-form").hidden = false;
    $("key").focus();
  }
  if (!response.ok) {
    let sentence = `the server answered ${response.status}`;
    try {
      sentence = (await response.json()).error ?? sentence;
    } catch {
      // no JSON; the status says enough
    }
    const error = new Error(sentence);
    error.status = response.status;
    throw error;
  }
  return response;
}

const ask = async (path) => (await send(path)).json();

const post = async (path, value) =>
  (await send(path, { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } })).json();

const tell = (sentence, wrong = false) => {
  if ($("message").textContent !== sentence) $("message").textContent = sentence;
  $("message").className = wrong ? "wrong" : "";
};

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    sessionStorage.setItem(KEY, $("key").value.trim());
  } catch {
    tell("The browser keeps nothing for this page, so the key cannot be used.", true);
  }
  $("key").value = "";
  $("key-form").hidden = true;
  tell("");
  route();
});

// ---- which page

let current = { page: "", name: "" };
let token = 0;

const counts = (run) =>
  run.total ? `${run.state}: ${run.done} of ${run.total} shards` + (run.running ? `, ${run.running} begun` : "") : run.state;

const decoded = (part) => {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // no address of this page's
  }
};

async function route() {
  const [page, name] = location.hash.slice(1).split("/").map(decoded);
  const known = ["runs", "run", "new"];
  current = { page: known.includes(page) ? page : "runs", name: name ?? "" };
  token += 1;
  for (const id of known) $(id).hidden = id !== current.page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current.page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = current.page === "run" ? `${current.name}, experiments` : "Experiments";
  if (current.page === "run") resetRun();
  if (current.page === "new") writeFile();
  await refresh();
}

async function refresh() {
  const own = token;
  try {
    if (current.page === "runs") showRuns((await ask("/api/runs")).runs, own);
    if (current.page === "run") await showRun(own);
    // What was wrong a moment ago, such as a server that was away, is no more.
    if (own === token && current.page !== "new" && $("message").className === "wrong") tell("");
  } catch (error) {
    if (own === token && error.status !== 401) tell(error.message, true);
  }
}

addEventListener("hashchange", route);
setInterval(() => {
  if (!document.hidden && $("key-form").hidden && current.page !== "new" && !settled) refresh();
}, POLL_MS);

// ---- the list of runs

let settled = false;

function showRuns(runs, own) {
  if (own !== token) return;
  settled = false;
  $("none").hidden = runs.length > 0;
  const rows = runs.map((run) => {
    const row = make("li");
    const link = make("a", run.name);
    link.href = `#run/${encodeURIComponent(run.name)}`;
    const bar = make("progress");
    bar.max = run.total || 1;
    bar.value = run.done;
    bar.setAttribute("aria-label", `${run.name}: shards that are done`);
    row.append(link, bar, make("span", counts(run)));
    if (run.why) row.append(make("span", run.why, "wrong why"));
    return row;
  });
  // Whoever stands on a link by keyboard stays on it.
  const focused = $("list").contains(document.activeElement) ? document.activeElement.hash : null;
  $("list").replaceChildren(...rows);
  if (focused) [...$("list").querySelectorAll("a")].find((link) => link.hash === focused)?.focus();
}

// ---- one run

let reported = false;

function resetRun() {
  settled = reported = false;
  $("run-name").textContent = current.name;
  for (const id of ["counts", "run-file"]) $(id).textContent = "";
  for (const id of ["failed", "report", "answers"]) $(id).replaceChildren();
  $("viewer").hidden = true;
  view = { shard: 0, place: 0, told: null };
}

async function showRun(own) {
  const name = current.name;
  const run = await ask(`/api/runs/${encodeURIComponent(name)}`);
  if (own !== token) return;
  $("bar").max = run.total || 1;
  $("bar").value = run.done;
  $("counts").textContent = counts(run) + (run.why ? `: ${run.why}` : "");
  $("failed").replaceChildren(...Object.values(run.failed).map((why) => make("li", why, "wrong")));
  $("run-file").textContent = run.file;
  if (run.done && $("viewer").hidden) await openViewer(run, own);
  else if (run.done && !view.told) await load(0, 0, own); // the first shard was not done before
  if (run.state === "done" && !reported) {
    const report = await ask(`/api/runs/${encodeURIComponent(name)}/report`);
    if (own !== token) return;
    showReport(report);
    reported = true;
  }
  settled = run.state === "done";
}

function showReport(report) {
  const parts = [make("h3", report.title), make("p", report.date)];
  for (const table of report.tables) {
    parts.push(make("h4", table.name), make("p", table.about));
    for (const part of table.parts) {
      const wide = make("div", "", "wide");
      wide.tabIndex = 0;
      wide.setAttribute("role", "region");
      wide.setAttribute("aria-label", `${table.name}, a table`);
      const shown = make("table");
      const head = shown.createTHead().insertRow();
      for (const cell of part.head) {
        const column = make("th", cell);
        column.scope = "col";
        head.append(column);
      }
      const body = shown.createTBody();
      for (const row of part.rows) {
        const line = body.insertRow();
        for (const cell of row) line.insertCell().textContent = cell;
      }
      wide.append(shown);
      parts.push(wide);
    }
  }
  if (report.omitted.length) {
    const list = make("ul");
    list.append(...report.omitted.map((line) => make("li", line)));
    parts.push(make("h4", "Left out"), list);
  }
  $("report").replaceChildren(...parts);
}

$("again").addEventListener("click", () => {
  $("file").value = $("run-file").textContent;
  written = true;
  location.hash = "#new";
});

// ---- images

let view = { shard: 0, place: 0, told: null };

async function openViewer(run, own) {
  $("table").replaceChildren(...run.tables.map((table) => new Option(table.name)));
  const names = run.tables[0].candidates;
  $("missed").replaceChildren(
    new Option("all images", ""),
    new Option("where candidates differ", "differ"),
    ...names.map((name) => new Option(`what ${name} missed`, name)),
  );
  $("viewer").hidden = false;
  await load(0, 0, own);
}

async function load(shard, place, own = token) {
  const query = new URLSearchParams({ table: $("table").value, shard, missed: $("missed").value });
  try {
    const told = await ask(`/api/runs/${encodeURIComponent(current.name)}/images?${query}`);
    if (own !== token) return;
    view = { shard, place: place < 0 ? Math.max(0, told.images.length - 1) : place, told };
    await showImage(own);
  } catch (error) {
    if (own === token) $("place").textContent = error.message;
  }
}

async function showImage(own = token) {
  const { shard, place, told } = view;
  const count = told.images.length;
  $("before").disabled = place === 0 && shard === 0;
  $("after").disabled = place >= count - 1 && shard >= told.shards - 1;
  const unread = Object.entries(told.left_out).map(([name, why]) => `${name}: ${why}`);
  $("unread").textContent = unread.length ? `Not read in this shard: ${unread.join("; ")}` : "";
  $("shown").hidden = count === 0;
  $("place").textContent = count
    ? `${place + 1} of ${count} in shard ${shard + 1} of ${told.shards}`
    : `none of ${told.of} images in shard ${shard + 1} of ${told.shards}`;
  if (!count) return;
  const image = told.images[place];
  const missed = Object.entries(image.answers).filter(([, a]) => !a.right).map(([n]) => n);
  $("caption").textContent =
    `${image.image} is ${image.label}. ` + (missed.length ? `Missed by ${missed.join(", ")}.` : "Nobody missed it.");
  $("answers").replaceChildren(
    ...Object.entries(image.answers).map(([name, answer]) => {
      const row = make("tr", "", answer.right ? "" : "wrong");
      const head = make("th", name);
      head.scope = "row";
      row.append(head, make("td", answer.said ?? "not kept"), make("td", `${(100 * answer.confidence).toFixed(1)}%`), make("td", answer.right ? "right" : "missed"));
      return row;
    }),
  );
  const query = new URLSearchParams({ table: $("table").value, shard, index: image.index });
  try {
    const response = await send(`/api/runs/${encodeURIComponent(current.name)}/image?${query}`);
    const content = URL.createObjectURL(await response.blob());
    if (own !== token || view.place !== place || view.shard !== shard) return URL.revokeObjectURL(content);
    URL.revokeObjectURL($("picture").src);
    $("picture").src = content;
    $("picture").alt = image.image;
  } catch (error) {
    $("picture").removeAttribute("src");
    $("picture").alt = error.message;
  }
}

function step(by) {
  if (!view.told) return;
  const place = view.place + by;
  if (place >= 0 && place < view.told.images.length) {
    view.place = place;
    showImage();
  } else if (view.shard + by >= 0 && view.shard + by < view.told.shards) {
    load(view.shard + by, by < 0 ? -1 : 0);
  }
}

$("before").addEventListener("click", () => step(-1));
$("after").addEventListener("click", () => step(1));
$("table").addEventListener("change", () => load(0, 0));
$("missed").addEventListener("change", () => load(0, 0));
addEventListener("keydown", (event) => {
  if ($("viewer").hidden || current.page !== "run" || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.matches("input, select, textarea")) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else return;
  event.preventDefault();
});

// ---- the form writes the file

let written = false; // whether somebody wrote in the file by hand

const value = (part) => (/^-?(0|[1-9]\d*)(\.\d+)?$/.test(part) ? part : JSON.stringify(part));

// A folder may be called 2024: where a field is for numbers, it says so.
const several = (field) => {
  const written = field.inputMode ? value : JSON.stringify;
  const parts = field.value.split(",").map((part) => part.trim()).filter(Boolean);
  return parts.length > 1 ? `[${parts.map((part) => written(part)).join(", ")}]` : written(parts[0] ?? "");
};

function fileOf() {
  const tables = { "": [], data: [], candidates: [], measure: [], report: [] };
  for (const field of document.querySelectorAll("[data-key]")) {
    const text = field.value.trim();
    if (!text) continue;
    const [first, second] = field.dataset.key.split(".");
    const [table, key] = second ? [first, second] : ["", first];
    // A split's commas are its own.
    const words = ["split", "name"].includes(key) ? JSON.stringify(text) : several(field);
    tables[table].push(`${key} = ${words}`);
  }
  const lines = [...tables[""]];
  for (const table of ["data", "candidates", "measure"]) {
    if (tables[table].length) lines.push("", `[${table}]`, ...tables[table]);
  }
  for (const field of document.querySelectorAll("[data-policy]")) {
    if (field.value.trim()) lines.push("", "[[policy]]", `${field.dataset.policy} = ${several(field)}`);
  }
  if (tables.report.length) lines.push("", "[report]", ...tables.report);
  return lines.join("\n") + "\n";
}

let checking = 0;

function writeFile() {
  if (!written) $("file").value = fileOf();
  clearTimeout(checking);
  checking = setTimeout(checkFile, 300);
}

async function checkFile() {
  const text = $("file").value;
  try {
    const { problems } = await post("/api/check", { file: text });
    if (text !== $("file").value) return null;
    $("problems").replaceChildren(...problems.map((p) => make("li", `line ${p.line}: ${p.words}`, "wrong")));
    return problems;
  } catch (error) {
    if (error.status !== 401) tell(error.message, true);
    return null;
  }
}

$("form").addEventListener("input", () => {
  written = false; // whoever goes back to the form wants its file
  writeFile();
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("file").addEventListener("input", () => {
  written = true;
  writeFile();
});
$("begin").addEventListener("click", async () => {
  clearTimeout(checking);
  const problems = await checkFile();
  if (!problems || problems.length) return;
  try {
    await post("/api/runs", { file: $("file").value });
    tell("");
    location.hash = "#runs";
  } catch (error) {
    tell(error.message, true);
  }
});
$("save").addEventListener("click", () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([$("file").value], { type: "application/toml" }));
  link.download = `${$("f-name").value || "experiment"}.toml`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

route();
