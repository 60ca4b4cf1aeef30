"use strict";
// All text reaches the page as text nodes. Nothing here knows whose recordings are played.
const test = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const served = location.protocol.startsWith("http");
const QUESTIONS = {
  preference: "Which of the two sounds more natural, more like a person speaking?",
  mos: "How natural does this speech sound?",
  similarity: "How much do the two recordings sound like the same speaker? Words and sound quality do not matter.",
};
const SCALES = {
  preference: [[3, "A is much better"], [2, "A is better"], [1, "A is slightly better"], [0, "About the same"],
    [-1, "B is slightly better"], [-2, "B is better"], [-3, "B is much better"]],
  mos: [[5, "5 – excellent, completely natural"], [4, "4 – good"], [3, "3 – fair"], [2, "2 – poor"], [1, "1 – bad, completely unnatural"]],
  similarity: [[5, "5 – certainly the same speaker"], [4, "4"], [3, "3 – cannot say"], [2, "2"], [1, "1 – certainly another speaker"]],
};
let state = null;

function make(tag, text) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  return node;
}
const slot = (name, sheet) => `svae-listen ${test.test} ${sheet} ${name}`;
function keep() { try { localStorage.setItem(slot(state.listener, state.sheet), JSON.stringify(state)); } catch { /* private windows */ } }
function kept(name, sheet) {
  try { return JSON.parse(localStorage.getItem(slot(name, sheet))); } catch { return null; }
}

async function suggestSheet() {
  const asked = Number(location.hash.slice(1));
  let sheet = Number.isInteger(asked) && asked > 0 ? asked : 1;
  if (served && !location.hash) {
    try { sheet = (await (await fetch("sheet")).json()).sheet; } catch { /* any sheet will do */ }
  }
  at("sheet").value = sheet;
}

function begin(event) {
  event.preventDefault();
  const listener = at("name").value.trim(), sheet = Number(at("sheet").value);
  if (!listener || !(sheet >= 1 && sheet <= test.sheets.length && Number.isInteger(sheet))) {
    at("problem").textContent = `Your name, and a sheet from 1 to ${test.sheets.length}, please.`;
    return;
  }
  state = kept(listener, sheet) ||
    { format: 1, test: test.test, listener, sheet, started: new Date().toISOString(), answers: [] };
  at("start").hidden = true;
  show();
}

function show() {
  const trials = test.sheets[state.sheet - 1], number = state.answers.length;
  if (number >= trials.length) return finish();
  const trial = trials[number], began = performance.now();
  at("trial").hidden = false;
  at("progress").textContent = `Question ${number + 1} of ${trials.length}`;
  at("question").textContent = QUESTIONS[trial.kind];
  const labels = trial.kind === "preference" ? ["A", "B"] : ["Recording"];
  const sounds = trial.clips.map((clip, i) => [labels[i], clip]);
  if (trial.reference) sounds.unshift(["Reference", trial.reference]);
  const plays = sounds.map(() => 0);
  let value = null;
  const buttons = SCALES[trial.kind].map(([answer, text]) => {
    const button = make("button", text);
    button.dataset.value = answer;
    button.disabled = true;
    button.addEventListener("click", () => {
      value = answer;
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      at("next").disabled = false;
    });
    return button;
  });
  const players = sounds.map(([label, clip], i) => {
    const box = make("div"), audio = make("audio");
    box.className = "player";
    audio.controls = true;
    audio.src = "data:audio/flac;base64," + at("clip-" + clip).textContent;
    audio.addEventListener("play", () => { for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause(); });
    audio.addEventListener("ended", () => {
      plays[i] += 1;
      box.classList.add("heard");
      if (plays.every(count => count > 0)) for (const button of buttons) button.disabled = false;
    });
    box.append(make("b", label), audio);
    return box;
  });
  at("players").replaceChildren(...players);
  at("answers").replaceChildren(...buttons);
  at("next").disabled = true;
  at("next").onclick = () => {
    if (value === null) return;
    state.answers.push({ trial: trial.trial, value, seconds: Math.round((performance.now() - began) / 100) / 10, plays });
    keep();
    show();
  };
}

async function finish() {
  state.finished ||= new Date().toISOString();
  keep();
  const text = JSON.stringify(state, null, 1);
  at("trial").hidden = true;
  at("end").hidden = false;
  at("download").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  at("download").download = `answers-${state.sheet}-${state.listener.replace(/[^\p{L}\p{N}]+/gu, "_")}.json`;
  at("done").textContent = "Please download your answers and send the file to whoever asked you.";
  if (served) {
    try {
      const sent = await fetch("answers", { method: "POST", headers: { "Content-Type": "application/json" }, body: text });
      if (!sent.ok) throw new Error(await sent.text());
      at("done").textContent = "Your answers have arrived. You can close this page.";
    } catch (error) {
      at("done").textContent = `Your answers could not be sent (${error.message}). Please download them and send the file.`;
    }
  }
  document.documentElement.dataset.finished = text;
}

document.querySelector("form").addEventListener("submit", begin);
suggestSheet();
