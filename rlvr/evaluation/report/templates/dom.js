// Builds elements. What a model wrote reaches the page through text nodes alone, never as markup.

const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
};

const number = (value, digits = 3) =>
  value === null ? "–" : (Math.round(value * 10 ** digits) / 10 ** digits + 0).toFixed(digits).replace("-", "−");
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const count = (value) => value.toLocaleString("en");
const quiet = (text) => el("span", { class: "quiet" }, text);
const GLYPHS = { right: "✓", wrong: "✗", unparsed: "∅", ungraded: "·" };
const outcome = (kind) => el("span", { class: `glyph ${kind}`, title: kind }, el("span", { "aria-hidden": "true" }, GLYPHS[kind]), el("span", { class: "hidden" }, `${kind}. `));

const FEW = 1800; // characters of a text, and lines, that are shown before "Show all"
const LINES = 40;
const TAGS = /(<\/?[A-Za-z_]{1,20}>)/;

// The first pieces of a text, up to FEW characters and LINES lines. A piece is a string or [text, kind, note].
const beginning = (pieces) => {
  const kept = [];
  let characters = 0;
  let lines = 0;
  for (const piece of pieces) {
    const [text, ...rest] = typeof piece === "string" ? [piece] : piece;
    let end = Math.min(text.length, FEW - characters);
    for (let at = text.indexOf("\n"); at >= 0 && at < end; at = text.indexOf("\n", at + 1)) {
      lines += 1;
      if (lines >= LINES) end = at;
    }
    kept.push(rest.length ? [text.slice(0, end), ...rest] : text.slice(0, end));
    characters += end;
    if (end < text.length) return [kept, true];
  }
  return [kept, false];
};

const plain = (text) => text.split(TAGS).map((part, at) => (at % 2 ? quiet(part) : part));

let tips = 0;
const marked = ([text, kind, note]) => {
  if (kind === "cut") return el("span", { class: "cut" }, text);
  const id = `tip-${++tips}`;
  const word = el("span", { class: "hidden" }, ` (${kind})`);
  const tip = el("span", { class: "tip", role: "tooltip", id }, el("b", {}, kind), ` ${note}`);
  return el("mark", { class: kind.replace(" ", "-"), tabindex: "0", "aria-describedby": id }, text, word, tip);
};

// A text of pieces; `draw` makes a node of each that is no plain string.
const prose = (pieces, draw = marked) => {
  const box = el("div", { class: "prose" });
  const fill = (shown) => box.append(...shown.flatMap((piece) => (typeof piece === "string" ? plain(piece) : [draw(piece)])));
  const [first, more] = beginning(pieces);
  fill(first);
  if (more) {
    const length = pieces.reduce((sum, piece) => sum + (typeof piece === "string" ? piece : piece[0]).length, 0);
    const all = () => {
      box.replaceChildren();
      fill(pieces);
      box.tabIndex = -1;
      box.focus({ preventScroll: true });
    };
    box.append(" … ", el("button", { type: "button", class: "more", click: all }, `Show all ${count(length)} characters`));
  }
  return box;
};

const promptBox = (turns) =>
  el("details", {}, el("summary", {}, "The prompt, with its evidence"),
    ...turns.flatMap(([role, text]) => [el("p", { class: "role" }, role), prose([text])]));

const region = (label, inner) => el("div", { class: "scroll snug", tabindex: "0", role: "region", "aria-label": label }, inner);

const table = (label, head, rows) =>
  region(label, el("table", { class: "compare group" },
    el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map(([first, ...cells]) =>
      el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((cell) => el("td", {}, cell)))))));
