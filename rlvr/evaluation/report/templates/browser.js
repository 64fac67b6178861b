// The rollout browser, the side-by-side comparisons, and the keys: / searches, j and k go on and back.
// Rows: q question, t task, s stage, n step, u unit, a answer, y truth, o outcome, e failed, f finished, r reward,
// d advantage, p prompt, c completion in pieces, v verdicts [verifier, score, reason, error], k facts [status, told].

const read = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const listers = [];
const label = (row) => row.s + (row.n === null ? "" : `, step ${row.n}`);
const said = (answer) => (answer === null ? quiet("no answer that parses") : el("b", {}, answer));
const whole = (pieces) => pieces.map((piece) => (typeof piece === "string" ? piece : piece[0])).join("");
const opening = (row) => whole(row.c).replace(/<\/?[a-z_]{1,20}>/gi, " ").replace(/\s+/g, " ").trim().slice(0, 140);
const heading = (...inner) => el("h3", { tabindex: "-1", class: "head" }, ...inner);
const facts = (...pairs) =>
  el("dl", { class: "facts" }, ...pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

// How far a reward lies above or below its group's mean, as a bar from the middle.
const bar = (value, most) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const width = most ? Math.abs(value) / most : 0;
  for (const [name, of] of Object.entries({ viewBox: "-1 0 2 1", preserveAspectRatio: "none", "aria-hidden": "true" })) svg.setAttribute(name, of);
  for (const [name, of] of Object.entries({ x: value < 0 ? -width : 0, y: 0, width, height: 1 })) rect.setAttribute(name, of);
  svg.setAttribute("class", value < 0 ? "bar wrong" : "bar right");
  svg.append(rect);
  return el("span", {}, signed(value), svg);
};

const verdictTable = (row) =>
  table("Verdicts", ["Verifier", "Score", "Reason"], row.v.map(([name, score, reason, error]) =>
    [name, score === null ? "abstains" : number(score, 2), error ? el("details", {}, el("summary", {}, reason), el("div", { class: "prose" }, error)) : reason]));

const consulted = (row) => {
  if (!row.k.length) return null;
  const lines = row.k.map(([status, told]) => el("li", {}, el("span", { class: `status ${status.replace(" ", "-")}` }, status), el("span", {}, told)));
  return el("details", { open: row.k.length <= 6 }, el("summary", {}, `What the verifiers consulted (${row.k.length})`), el("ul", { class: "evidence" }, ...lines));
};

const groupView = (rows, row, lister) => {
  const most = Math.max(...rows.map((one) => Math.abs(one.d ?? 0)));
  const names = rows[0].v.map(([name]) => name);
  const go = (one) => () => {
    lister.show(one.u);
    lister.open(lister.hits.indexOf(one));
    lister.find("detail").querySelector("h3").focus();
  };
  const lines = rows.map((one, at) => [
    el("span", {}, outcome(one.o), el("button", { type: "button", class: "link", "aria-current": one === row && "true", click: go(one) }, `${at + 1}. ${one.a ?? "unparsed"}`)),
    one.d === null ? "–" : bar(one.d, most),
    number(one.r),
    ...names.map((name) => number(one.v.find(([other]) => other === name)?.[1] ?? null, 2)),
  ]);
  const columns = rows.map((one, at) =>
    el("section", { "aria-label": `Completion ${at + 1}` }, el("p", { class: "role" }, outcome(one.o), `${at + 1}. `, said(one.a), one.d === null ? "" : ` · advantage ${signed(one.d)}`), prose(one.c)));
  return [
    el("h4", {}, `Its group: ${rows.length} completions of one prompt`),
    el("p", { class: "note" }, "The advantage, how far a reward lies above its group’s mean, is all that GRPO learns from."),
    table("The group", ["Answer", "Advantage", "Reward", ...names], lines),
    el("p", { class: "actions" }, el("button", { type: "button", click: () => lister.show(row.u) }, "List only this group")),
    el("details", { class: "side" }, el("summary", {}, `The ${rows.length} completions side by side`),
      el("div", { class: "columns", tabindex: "0", role: "region", "aria-label": "Completions side by side" }, ...columns)),
  ];
};

const elsewhere = (rows, row, lister) => {
  const others = rows.filter((one) => one.q === row.q && one.u !== row.u).slice(0, 8);
  if (!others.length) return [];
  const go = (one) => () => (lister.form.reset(), setTimeout(() => lister.open(lister.hits.indexOf(one))));
  const lines = others.map((one) => el("li", {}, outcome(one.o), el("button", { type: "button", class: "link", click: go(one) }, label(one)), " ", said(one.a)));
  return [el("h4", {}, "The same question elsewhere"), el("ul", { class: "plainlist" }, ...lines)];
};

const browse = (root, { rows, prompts }) => {
  const units = Map.groupBy ? Map.groupBy(rows, (row) => row.u) : rows.reduce((map, row) => map.set(row.u, [...(map.get(row.u) ?? []), row]), new Map());
  const detail = (row, lister) => {
    const group = units.get(row.u);
    return [
      heading(outcome(row.o), row.q),
      facts(["Stage", label(row)], ["Answer", said(row.a)], row.y !== null && ["Measured", el("b", {}, row.y)], row.r !== null && ["Reward", el("b", {}, number(row.r))], row.d !== null && ["Advantage", el("b", {}, signed(row.d))], !row.f && ["Ending", "cut off"]),
      prose(row.c),
      verdictTable(row),
      consulted(row),
      promptBox(prompts[row.p]),
      ...(group.length > 1 ? groupView(group, row, lister) : []),
      ...elsewhere(rows, row, lister),
    ].filter(Boolean);
  };
  const lister = new Lister(root, rows, {
    facets: {
      task: (row) => [row.t],
      stage: (row) => [row.s],
      outcome: (row) => [row.o],
      verifier: (row) => row.v.map(([name]) => name),
      reason: (row) => {
        const wanted = root.querySelector("[data-verifier]").value;
        return row.v.filter(([name]) => !wanted || name === wanted).map(([, , reason]) => reason);
      },
    },
    text: (row) => `${row.q} ${row.a ?? ""} ${whole(row.c)} ${prompts[row.p].map(([, text]) => text).join(" ")}`,
    item: (row) => [outcome(row.o), el("span", { class: "name" }, row.q), el("span", { class: "quiet meta" }, label(row), row.r === null ? "" : ` · reward ${number(row.r, 2)}`), el("span", { class: "snippet" }, opening(row))],
    detail,
  });
  lister.rollouts = true;
  listers.push(lister);
};

const differs = ([text, kind]) => (kind === "-" ? el("del", {}, text) : el("ins", {}, text));

const comparison = (root, { rows, prompts, names }) => {
  const side = (row, at) => {
    const other = at ? "-" : "+";
    const pieces = row.w.filter(([kind]) => kind !== other).map(([kind, text]) => (kind === "=" ? text : [text, kind]));
    const [answer, p] = row.a[at];
    return el("section", { "aria-label": names[at] }, el("p", { class: "role" }, el("b", {}, names[at])), el("p", { class: "role" }, "answer ", said(answer), p === null ? "" : ` · P(${row.y}) ${number(p, 2)}`), prose(pieces, differs));
  };
  const lister = new Lister(root, rows, {
    facets: { task: (row) => [row.t], change: (row) => [row.o], moved: (row) => [row.same ? "same answer" : "another answer"] },
    text: (row) => `${row.q} ${row.y ?? ""} ${row.w.map(([, text]) => text).join("")}`,
    item: (row) => [outcome(row.o.split(" ").at(-1)), el("span", { class: "name" }, row.q), el("span", { class: "quiet meta" }, row.o), el("span", { class: "snippet" }, row.a.map(([answer]) => answer ?? "unparsed").join(" → "))],
    detail: (row) => [
      heading(row.q),
      facts(["Change", row.o], row.y !== null && ["Measured", el("b", {}, row.y)]),
      el("div", { class: "two" }, side(row, 0), side(row, 1)),
      promptBox(prompts[row.p]),
    ],
  });
  listers.push(lister);
};

for (const root of document.querySelectorAll(".lister")) {
  const data = read(root.dataset.from);
  if (data) (root.dataset.kind === "rollouts" ? browse : comparison)(root, data);
}

document.addEventListener("keydown", (event) => {
  const here = event.target;
  if (event.key === "Escape") here.blur?.();
  if (event.ctrlKey || event.metaKey || event.altKey || here.closest?.("input, select, textarea")) return;
  const lister = listers.find((one) => one.root.contains(here)) ?? listers.find((one) => one.rollouts) ?? listers[0];
  if (!lister) return;
  if (event.key === "/") {
    event.preventDefault();
    lister.find("text").focus();
  }
  if (event.key === "j" || event.key === "k") lister.step(event.key === "j" ? 1 : -1);
});
