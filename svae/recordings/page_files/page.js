"use strict";
// All text reaches the page as text nodes and values of fields; nothing here parses HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const table = document.querySelector("#segments tbody");
const PAGE = 100;
let shown = PAGE;
let saved = true;

for (const row of data.rows) {
  row.first = { text: row.text, used: row.used };
  row.haystack = [row.key, row.source, row.speaker, row.text, row.heard || "", ...row.reasons].join(" ").toLowerCase();
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function field(id) { return document.getElementById(id).value; }
function changed(row) { return row.text.trim() !== row.first.text || row.used !== row.first.used; }

// What was decided before, and what is decided now: the file holds all of it.
function decision(row) {
  const found = { ...row.decision };
  if (row.text.trim() && row.text.trim() !== row.first.text) found.text = row.text.trim();
  if (row.used !== row.first.used) found.use = row.used;
  return Object.keys(found).length ? { ...found, audio: row.audio } : null;
}

function selected() {
  const words = field("search").toLowerCase().trim(), speaker = field("speaker"), show = field("show");
  return data.rows.filter(row => (!speaker || row.speaker === speaker) && (!words || row.haystack.includes(words))
    && (show === "all" || (show === "changed" ? changed(row) : row.used === (show === "used"))));
}

function draw() {
  const rows = selected();
  table.replaceChildren(...rows.slice(0, shown).map(line));
  document.getElementById("count").textContent = `${rows.length} of ${data.rows.length} segments`;
  document.getElementById("more").hidden = rows.length <= shown;
}

function note() {
  const number = data.rows.filter(changed).length;
  document.getElementById("changes").textContent = number ? `${number} changed` : "nothing changed";
}

function line(row) {
  const tr = make("tr");
  const mark = () => {
    tr.className = (row.used ? "" : "out ") + (changed(row) ? "changed" : "");
    saved = false;
    note();
  };
  const box = make("input");
  box.type = "checkbox";
  box.checked = row.used;
  box.setAttribute("aria-label", "use");
  box.addEventListener("change", () => { row.used = box.checked; mark(); });
  const player = make("audio");
  player.controls = true;
  player.preload = "none";
  player.src = row.link;
  const text = make("textarea");
  text.rows = Math.max(1, Math.ceil(row.text.length / 60));
  text.value = row.text;
  text.setAttribute("aria-label", "text");
  text.addEventListener("input", () => { row.text = text.value; mark(); });
  const use = make("td"), where = make("td", "where"), main = make("td"), why = make("td", "why");
  use.append(box);
  where.append(make("div", "", row.source), make("div", "", `${row.speaker}, ${row.start.toFixed(2)} s, ${row.seconds.toFixed(2)} s long`),
    make("div", "", row.facts.join(" · ")));
  main.append(player, text, make("div", "dim", `text: ${row.from}`));
  if (row.heard !== null) main.append(make("div", "dim", `heard: ${row.heard || "nothing"}`));
  for (const reason of row.reasons) why.append(make("div", "", reason));
  tr.className = (row.used ? "" : "out ") + (changed(row) ? "changed" : "");
  tr.append(use, where, main, why);
  return tr;
}

function save() {
  const segments = {};
  for (const row of data.rows) {
    const found = decision(row);
    if (found) segments[row.key] = found;
  }
  const file = new Blob([JSON.stringify({ segments }, null, 1) + "\n"], { type: "application/json" });
  const link = make("a");
  link.href = URL.createObjectURL(file);
  link.download = "review.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  saved = true;
}

for (const name of [...new Set(data.rows.map(row => row.speaker))].sort()) {
  const option = make("option", "", name);
  option.value = name;
  document.getElementById("speaker").append(option);
}
for (const id of ["show", "speaker", "search"]) {
  document.getElementById(id).addEventListener("input", () => { shown = PAGE; draw(); });
}
document.getElementById("more").addEventListener("click", () => { shown += PAGE; draw(); });
document.getElementById("save").addEventListener("click", save);
window.addEventListener("beforeunload", event => { if (!saved) event.preventDefault(); });
draw();
