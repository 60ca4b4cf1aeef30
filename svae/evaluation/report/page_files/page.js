"use strict";
// All text reaches the page as text nodes; nothing here parses HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const table = document.querySelector("#utterances tbody");
const PAGE = 100;
let shown = PAGE;
let order = { key: "wer", down: true };

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function percent(value) { return value === null || value === undefined ? "—" : (100 * value).toFixed(1); }
function number(value) { return value === null || value === undefined ? "—" : value.toFixed(3); }
function missing(value) { return value === null || value === undefined; }

function chip(value) {
  const level = missing(value) ? "" : value === 0 ? "good" : value < 0.2 ? "warn" : "bad";
  return make("span", "chip " + level, percent(value));
}

function compare(a, b) {
  const x = a[order.key], y = b[order.key];
  if (missing(x) || missing(y)) return missing(x) - missing(y);
  const sign = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  return (order.down ? -sign : sign) || a.place - b.place;
}

function selected() {
  const words = document.getElementById("search").value.toLowerCase().trim();
  const speaker = document.getElementById("speaker").value;
  const wrong = document.getElementById("wrong").checked;
  return data.rows
    .filter(row => (!speaker || row.speaker === speaker) && (!wrong || row.wer > 0 || row.failed))
    .filter(row => !words || row.haystack.includes(words))
    .sort(compare);
}

function draw() {
  const rows = selected();
  table.replaceChildren(...rows.slice(0, shown).map(line));
  document.getElementById("count").textContent = `${rows.length} of ${data.rows.length} utterances`;
  document.getElementById("more").hidden = rows.length <= shown;
  for (const head of document.querySelectorAll("#utterances th")) {
    const own = head.dataset.key === order.key;
    head.setAttribute("aria-sort", own ? (order.down ? "descending" : "ascending") : "none");
  }
}

function line(row) {
  const tr = make("tr", "row");
  tr.tabIndex = 0;
  tr.dataset.id = row.id;
  const cells = [["id", row.id], ["minor", row.speaker || "—", "speaker"], ["number minor", row.seconds.toFixed(1) + " s", ""],
    ["number main", null], ["number minor", percent(row.originalWer), "orig. WER"],
    ["number minor", number(row.similarity), "sim."], ["text", row.text]];
  for (const [className, text, label] of cells) {
    const td = make("td", className, text === null ? undefined : text);
    if (text === null) td.append(chip(row.wer));
    if (label) td.dataset.label = label;
    tr.append(td);
  }
  const toggle = () => open(tr, row);
  tr.addEventListener("click", toggle);
  tr.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
  });
  return tr;
}

function open(tr, row) {
  if (tr.classList.toggle("open")) tr.after(detail(row));
  else tr.nextSibling.remove();
}

function detail(row) {
  const tr = make("tr", "detail");
  const td = make("td");
  td.colSpan = 7;
  const cards = make("div", "cards");
  const stored = document.getElementById("media-" + row.place);
  const media = stored ? JSON.parse(stored.textContent) : {};
  if (row.prompt) {
    const card = make("article", "card");
    card.append(title("Reference voice (prompt)", []));
    if (row.promptText) card.append(make("p", "text", row.promptText));
    card.append(players(row.prompt, media[""]));
    cards.append(card);
  }
  for (const entry of row.recordings) cards.append(recording(entry, media[entry.name]));
  td.append(cards);
  tr.append(td);
  return tr;
}

function title(name, facts) {
  const h3 = make("h3", "", name);
  for (const fact of facts) h3.append(make("span", "", fact));
  return h3;
}

function recording(entry, media) {
  const card = make("article", "card");
  card.append(title(entry.name, entry.facts));
  if (entry.error) card.append(make("p", "error", entry.error));
  if (entry.words) card.append(words(entry.words));
  else if (entry.hypothesis) card.append(make("p", "", entry.hypothesis));
  card.append(players(entry, media));
  return card;
}

function words(list) {
  const p = make("p", "words");
  for (const [kind, said, heard] of list) {
    const span = make("span", kind === "=" ? "" : kind);
    if (kind === "s") {
      span.append(make("small", "", said), heard);
      span.title = "substituted: " + said + " → " + heard;
    } else {
      span.textContent = kind === "i" ? heard : said;
      if (kind !== "=") span.title = kind === "i" ? "inserted" : "deleted";
    }
    p.append(span, " ");
  }
  return p;
}

function players(entry, media) {
  const box = make("div", "media");
  const source = media && media.audio ? blob(media.audio) : entry.link;
  if (source) {
    const audio = make("audio");
    audio.controls = true;
    audio.preload = "metadata";
    audio.src = source;
    box.append(audio);
  } else if (!entry.error) {
    box.append(make("span", "text", "audio is not in this file"));
  }
  if (media && media.mel) {
    const image = make("img");
    image.alt = "mel spectrogram";
    image.src = media.mel;
    box.append(image);
  }
  return box;
}

function blob(uri) {
  const [head, body] = uri.split(",", 2);
  const bytes = Uint8Array.from(atob(body), character => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
}

data.rows.forEach((row, place) => {
  row.place = place;
  row.haystack = [row.id, row.speaker || "", row.text, ...row.recordings.map(r => r.hypothesis || "")].join("\n").toLowerCase();
});
const speakers = [...new Set(data.rows.map(row => row.speaker).filter(Boolean))].sort();
for (const name of speakers) {
  const option = make("option", "", name);
  option.value = name;
  document.getElementById("speaker").append(option);
}
document.getElementById("speaker").hidden = speakers.length < 2;
for (const id of ["search", "speaker", "wrong"]) {
  document.getElementById(id).addEventListener("input", () => { shown = PAGE; draw(); });
}
document.getElementById("more").addEventListener("click", () => { shown += PAGE; draw(); });
for (const head of document.querySelectorAll("#utterances th[data-key]")) {
  head.querySelector("button").addEventListener("click", () => {
    const key = head.dataset.key;
    order = { key, down: order.key === key ? !order.down : !["id", "speaker", "text"].includes(key) };
    draw();
  });
}
draw();
const first = selected().slice(0, shown).findIndex(row => !row.failed);
if (first >= 0) table.rows[first].click(); // the report opens with something to listen to
document.documentElement.dataset.ready = String(data.rows.length);
