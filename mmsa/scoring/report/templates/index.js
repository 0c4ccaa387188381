"use strict";
(() => {
  const { rows } = JSON.parse(document.getElementById("data").textContent);
  const PER_PAGE = 100;
  const SVG = "http://www.w3.org/2000/svg";
  const state = { sort: "title", down: false, find: "", failed: false, page: 0 };
  const tasks = [];
  for (const row of rows) for (const task of row.tasks || []) {
    if (!tasks.some((one) => one.name === task.name)) tasks.push({ name: task.name, value: "mean" in task });
  }
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row.coverage || {})))];
  const natural = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const clock = (seconds) => {
    const whole = Math.floor(seconds), pad = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  };
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const taskOf = (row, name) => (row.tasks || []).find((one) => one.name === name);

  const columns = [
    { key: "title", label: "File", of: (row) => row.title },
    { key: "seconds", label: "Length", of: (row) => row.seconds ?? null },
    ...tasks.map(({ name, value }) => ({
      key: `task ${name}`, label: name,
      of: (row) => { const own = taskOf(row, name); return !own ? null : value ? own.mean : own.held.length ? own.held[0][0] : null; },
    })),
    ...keys.map((key) => ({ key: `has ${key}`, label: key, of: (row) => (row.coverage || {})[key] ?? null })),
  ];

  const compare = (column) => (a, b) => {
    const one = column.of(a), other = column.of(b);
    if (one === null || other === null) return (one === null) - (other === null);
    const order = typeof one === "number" ? one - other : natural.compare(one, other);
    return state.down ? -order : order;
  };

  const spark = (points) => {
    const most = Math.max(1, ...points.map(Math.abs)), width = 150, height = 28;
    const x = (i) => points.length > 1 ? i * width / (points.length - 1) : width / 2;
    const y = (v) => height / 2 - v / most * (height / 2 - 2);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("width", width); svg.setAttribute("height", height); svg.setAttribute("aria-hidden", "true");
    const zero = document.createElementNS(SVG, "line");
    zero.setAttribute("x2", width); zero.setAttribute("y1", height / 2); zero.setAttribute("y2", height / 2);
    zero.setAttribute("stroke", "var(--line)");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", points.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join(""));
    path.setAttribute("fill", "none"); path.setAttribute("stroke", "var(--c1)"); path.setAttribute("stroke-width", "1.75");
    svg.append(zero, path);
    return svg;
  };

  const taskCell = (task) => {
    if (!task) return make("td");
    if ("mean" in task) {
      const cell = make("td", { class: "num" }, task.points.length > 1 ? `${signed(task.mean)} ± ${task.std.toFixed(2)}` : signed(task.mean));
      if (task.points.length > 1) cell.append(spark(task.points));
      return cell;
    }
    const words = task.held.slice(0, 3).map(([name, share]) => `${name} ${Math.round(share * 100)} %`).join(", ");
    const mix = make("div", { class: "mix", "aria-hidden": "true" });
    for (const [, share, colour] of task.held) {
      const part = make("i", { class: `c${colour}` });
      part.style.width = `${share * 100}%`;
      mix.append(part);
    }
    return make("td", {}, words || "none", mix);
  };

  const line = (row) => {
    const link = make("a", { href: row.page }, row.title);
    const name = make("th", { scope: "row" }, link, make("span", { class: "where" }, row.span ? `${row.path}, ${row.span}` : row.path));
    if (row.error !== null) {
      const cell = make("td", { class: "reason", colspan: String(columns.length - 1) }, `failed: ${row.error}`);
      return make("tr", {}, name, cell);
    }
    if (row.gone) name.append(make("span", { class: "where reason" }, "the media is no longer there"));
    return make("tr", {}, name,
      make("td", { class: "num" }, row.seconds ? clock(row.seconds) : "–"),
      ...tasks.map(({ name: task }) => taskCell(taskOf(row, task))),
      ...keys.map((key) => make("td", { class: "num" }, key in (row.coverage || {}) ? `${Math.round(row.coverage[key] * 100)} %` : "–")));
  };

  const draw = () => {
    const column = columns.find((one) => one.key === state.sort);
    const word = state.find.toLowerCase();
    const kept = rows.filter((row) => (!state.failed || row.error !== null) &&
      (!word || `${row.title} ${row.path} ${row.error || ""}`.toLowerCase().includes(word)));
    kept.sort(compare(column));
    const pages = Math.max(1, Math.ceil(kept.length / PER_PAGE));
    state.page = Math.min(state.page, pages - 1);
    const failed = rows.filter((row) => row.error !== null).length;
    document.getElementById("count").textContent =
      `${kept.length} of ${rows.length} shown${failed ? `, ${failed} could not be scored` : ""}`;
    const head = make("tr", {}, ...columns.map((one) => {
      const button = make("button", { type: "button" }, `${one.label}${one.key === state.sort ? (state.down ? " ↓" : " ↑") : ""}`);
      button.addEventListener("click", () => {
        state.down = one.key === state.sort ? !state.down : false;
        state.sort = one.key;
        draw();
      });
      const order = one.key === state.sort ? (state.down ? "descending" : "ascending") : "none";
      return make("th", { scope: "col", "aria-sort": order }, button);
    }));
    document.querySelector("#files thead").replaceChildren(head);
    document.querySelector("#files tbody").replaceChildren(
      ...kept.slice(state.page * PER_PAGE, (state.page + 1) * PER_PAGE).map(line));
    const pager = document.getElementById("pager");
    pager.hidden = pages === 1;
    const turn = (label, by) => {
      const button = make("button", { type: "button" }, label);
      button.disabled = state.page + by < 0 || state.page + by >= pages;
      button.addEventListener("click", () => { state.page += by; draw(); });
      return button;
    };
    pager.replaceChildren(turn("Previous", -1), `Page ${state.page + 1} of ${pages}`, turn("Next", 1));
  };
  document.getElementById("find").addEventListener("input", (event) => { state.find = event.target.value; draw(); });
  document.getElementById("failed").addEventListener("change", (event) => { state.failed = event.target.checked; draw(); });
  draw();
})();
