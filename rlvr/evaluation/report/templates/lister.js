// A list that is searched, filtered, paged and walked by keyboard, with what is chosen from it beside it.

const PAGE = 12;

class Lister {
  // facets: name -> (row) => strings to filter on. item: (row) => nodes of a line. detail: (row, lister) => nodes.
  constructor(root, rows, { facets, text, item, detail }) {
    Object.assign(this, { root, rows, facets, text, item, detail, hits: rows, at: -1, page: 0, only: null });
    this.form = root.querySelector("form");
    this.find = (name) => root.querySelector(`[data-${name}]`);
    for (const [name, values] of Object.entries(facets)) this.options(this.find(name), values);
    this.form.addEventListener("input", () => this.later());
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.filter()));
    this.form.addEventListener("reset", () => setTimeout(() => this.show(null)));
    this.find("only").addEventListener("click", () => (this.show(null), this.find("text").focus()));
    this.find("list").addEventListener("keydown", (event) => this.arrow(event));
    this.find("previous").addEventListener("click", () => this.turn(-1));
    this.find("next").addEventListener("click", () => this.turn(1));
    this.filter();
  }

  options(select, values) {
    const counts = new Map();
    for (const row of this.rows) for (const value of new Set(values(row))) counts.set(value, (counts.get(value) ?? 0) + 1);
    const names = [...counts.keys()].sort();
    select.append(...names.map((name) => el("option", { value: name }, `${name} (${count(counts.get(name))})`)));
    select.closest("label").hidden = names.length < 2;
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.filter(), 120);
  }

  filter() {
    this.haystacks ??= this.rows.map((row) => this.text(row).toLowerCase());
    const words = this.find("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = Object.entries(this.facets).map(([name, values]) => [this.find(name).value, values]).filter(([value]) => value);
    const bound = (name, none) => {
      const value = this.find(name)?.value;
      return value ? Number(value) : none;
    };
    const [low, high] = [bound("low", -Infinity), bound("high", Infinity)];
    const ranged = low > -Infinity || high < Infinity;
    this.hits = this.rows.filter((row, place) =>
      (this.only === null || row.u === this.only) &&
      wanted.every(([value, values]) => values(row).includes(value)) &&
      (!ranged || (row.r !== null && row.r >= low && row.r <= high)) &&
      words.every((word) => this.haystacks[place].includes(word)));
    this.page = 0;
    this.open(this.hits.length ? 0 : -1);
  }

  // Only the rows of one unit, or (null) all.
  show(unit) {
    this.only = unit;
    this.find("only").hidden = unit === null;
    this.filter();
  }

  open(at) {
    this.at = at;
    if (at >= 0) this.page = Math.floor(at / PAGE);
    this.draw();
    const row = this.hits[at];
    this.find("detail").replaceChildren(...(row ? this.detail(row, this) : [el("p", { class: "quiet" }, "Nothing to show.")]));
  }

  turn(by) {
    this.open((this.page + by) * PAGE);
    this.root.scrollIntoView({ block: "nearest" });
  }

  // To the next (1) or previous (-1) row, with the keyboard's focus on its line.
  step(by) {
    const to = this.at + by;
    if (to < 0 || to >= this.hits.length) return;
    this.open(to);
    const line = this.root.querySelector("[aria-current]");
    line.focus({ preventScroll: true });
    line.scrollIntoView({ block: "nearest" });
  }

  arrow(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      event.preventDefault();
      this.step(by);
    }
  }

  draw() {
    const start = this.page * PAGE;
    const shown = this.hits.slice(start, start + PAGE);
    const lines = shown.map((row, place) => {
      const current = start + place === this.at;
      const choose = () => {
        this.open(start + place);
        const detail = this.find("detail");
        const below = detail.getBoundingClientRect().top > this.find("list").getBoundingClientRect().top + 8;
        if (below) (detail.querySelector("h3").focus({ preventScroll: true }), detail.scrollIntoView());
        else this.root.querySelector("[aria-current]").focus({ preventScroll: true });
      };
      return el("li", {}, el("button", { type: "button", "aria-current": current && "true", click: choose }, ...this.item(row)));
    });
    this.find("list").replaceChildren(...lines);
    const range = shown.length ? `, ${count(start + 1)} to ${count(start + shown.length)} listed` : "";
    this.find("found").textContent = `${count(this.hits.length)} found${range}`;
    this.find("previous").disabled = start === 0;
    this.find("next").disabled = start + PAGE >= this.hits.length;
  }
}
