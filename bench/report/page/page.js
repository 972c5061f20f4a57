"use strict";
// Everything foreign is written with textContent or setAttribute, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("scores");
  const body = table.tBodies[0];
  const all = [...body.rows];

  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // sorting
  const keyOf = (cell) => {
    if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
    return cell.classList.contains("n") ? null : cell.textContent.toLowerCase();
  };
  const sortBy = (column, direction) => {
    const keyed = all.map((row, at) => [keyOf(row.cells[column]), at, row]);
    keyed.sort(([a, first], [b, second]) => {
      if (a === null || b === null) return (a === null) - (b === null) || first - second;
      if (a < b) return -direction;
      if (a > b) return direction;
      return first - second;
    });
    body.append(...keyed.map(([, , row]) => row));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", head.textContent, { type: "button" });
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending";
      const direction = head.hasAttribute("aria-sort") ? (down ? 1 : -1) : head.classList.contains("n") ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      sortBy(column, direction);
    });
  });

  // filtering
  const form = document.getElementById("filters");
  const search = document.getElementById("search");
  const selects = [...form.querySelectorAll("select")];
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of all) {
      const fits = selects.every((select) => !select.value || row.dataset[select.dataset.field] === select.value);
      row.hidden = !(fits && row.textContent.toLowerCase().includes(wanted));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("count").textContent = `${shown} of ${all.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
  filter();

  // run cards
  const dialog = document.getElementById("runs");
  const space = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes, text) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const curves = (card) => {
    const lines = card.runs.filter((run) => run.curve.length > 1);
    if (!lines.length) return make("p", data.curves ? "No learning curve." : "Too many runs for curves on this page; they are in the records.", { class: "quiet" });
    const points = lines.flatMap((run) => run.curve);
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1] * card.factor)];
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const [width, height, pad] = [560, 220, 44];
    const x = (value) => pad + ((value - left) / (right - left || 1)) * (width - pad - 10);
    const y = (value) => height - 30 - ((value - low) / (high - low || 1)) * (height - 45);
    const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", width: "100%", style: "max-width:40rem", "aria-label": `Validation ${card.metric} by epoch, ${lines.length} seeds, from ${low.toFixed(2)} to ${high.toFixed(2)}` });
    for (const value of [low, (low + high) / 2, high]) {
      picture.append(draw("line", { x1: pad, x2: width - 10, y1: y(value), y2: y(value), stroke: "currentColor", "stroke-opacity": 0.15 }));
      picture.append(draw("text", { x: pad - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(high - low < 1 ? 3 : 1)));
    }
    picture.append(draw("text", { x: pad, y: height - 12 }, `epoch ${left}`));
    picture.append(draw("text", { x: width - 10, y: height - 12, "text-anchor": "end" }, `epoch ${right}`));
    for (const run of lines) {
      const path = run.curve.map((p) => `${x(p[0]).toFixed(1)},${y(p[1] * card.factor).toFixed(1)}`).join(" ");
      const line = draw("polyline", { points: path, fill: "none", stroke: "var(--accent)", "stroke-width": 1.6, "stroke-opacity": 0.75 });
      line.append(draw("title", {}, `seed ${run.seed}`));
      picture.append(line);
    }
    const frame = make("div");
    frame.append(make("p", `Validation ${card.metric} by epoch, one line a seed`, { class: "quiet" }), picture);
    return frame;
  };
  const listed = (title, entries) => {
    const box = make("details");
    box.append(make("summary", title));
    const list = make("dl");
    for (const [name, value] of Object.entries(entries)) list.append(make("dt", name), make("dd", value));
    box.append(list);
    return box;
  };
  const number = (value, factor, digits) => (value === null ? "-" : (value * factor).toFixed(digits));
  const open = (at) => {
    const card = data.cards[at];
    const title = make("h2", card.label, { id: "runs-title" });
    const close = make("button", "Close", { type: "button", autofocus: "" });
    close.addEventListener("click", () => dialog.close());
    const bar = make("div", null, { class: "bar" });
    bar.append(title, close);
    const runs = make("table");
    const head = make("tr");
    for (const name of ["seed", "status", `test ${card.metric}`, "last epoch", "best epoch", "train s", "finished", "revision", "record"]) head.append(make("th", name, { scope: "col" }));
    runs.createTHead().append(head);
    const lines = runs.createTBody();
    for (const run of card.runs) {
      const line = lines.insertRow();
      const digits = card.factor === 100 ? 2 : 3;
      line.append(make("th", run.seed, { scope: "row" }));
      for (const value of [run.error ? `${run.status}: ${run.error}` : run.status, number(run.test, card.factor, digits), number(run.last, card.factor, digits), number(run.epoch, 1, 0), number(run.seconds, 1, 1), run.finished, run.revision, run.key]) line.append(make("td", value));
    }
    const scroll = make("div", null, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" });
    scroll.append(runs);
    dialog.replaceChildren(bar, make("p", card.where, { class: "quiet" }), curves(card), scroll);
    for (const [title, field, store] of [["Environment", "environment", data.environments], ["Configuration", "configuration", data.configurations], ["Data", "data", data.datas]]) {
      for (const [nth, place] of [...new Set(card.runs.map((run) => run[field]))].entries()) {
        const seeds = card.runs.filter((run) => run[field] === place).map((run) => run.seed);
        const different = seeds.length < card.runs.length;
        if (nth < 8) dialog.append(listed(different ? `${title}, seed ${seeds.slice(0, 12).join(", ")}` : title, store[place]));
      }
    }
    dialog.showModal();
  };
  const last = make("th", "runs", { scope: "col" });
  table.tHead.rows[0].append(last);
  for (const row of all) {
    const button = make("button", "runs", { type: "button" });
    const card = data.cards[Number(row.dataset.row)];
    button.setAttribute("aria-label", `Runs of ${card.label} on ${row.dataset.task}`);
    button.addEventListener("click", () => open(Number(row.dataset.row)));
    row.insertCell().append(button);
  }

  // a link to a method card opens it
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest('a[href^="#method-"]');
    if (link && link.hash === location.hash) reveal();
  });
  reveal();

  // light and dark: what the system says until somebody chooses
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  theme.hidden = false;
  name();
})();
