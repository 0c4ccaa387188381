"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { windows, tasks, modalities, reasons, speakers, lines } = data;
  const count = windows.start.length;
  const byId = (id) => document.getElementById(id);
  const media = byId("media"), box = byId("timeline");
  const SVG = "http://www.w3.org/2000/svg";
  const LINES_SHOWN = 100;
  const GUTTER = 96, RIGHT = 10;

  // ---------------------------------------------------------------- small tools
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes = {}, text) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const clock = (seconds, tenths) => {
    const whole = Math.floor(seconds + 1e-6), pad = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    const base = hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
    return tenths ? `${base}.${Math.floor((seconds - whole) * 10 + 1e-6)}` : base;
  };
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const percent = (value) => `${Math.round(value * 100)} %`;
  const shorten = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const firstAtLeast = (values, wanted) => {
    let low = 0, high = values.length;
    while (low < high) { const mid = (low + high) >> 1; if (values[mid] < wanted) low = mid + 1; else high = mid; }
    return low;
  };

  // ---------------------------------------------------------------- which window an instant belongs to
  // Where windows overlap, each owns the time up to the middle of what it shares with the next.
  const owned = { start: windows.start.slice(), end: windows.end.slice(), middle: [] };
  for (let i = 0; i + 1 < count; i++) {
    const next = windows.start[i + 1];
    if (windows.end[i] > next) owned.end[i] = Math.min((windows.end[i] + next) / 2, windows.end[i + 1]);
    owned.end[i] = Math.max(owned.end[i], owned.start[i]);
    if (owned.end[i] > next) owned.start[i + 1] = owned.end[i];
  }
  for (let i = 0; i < count; i++) {
    owned.end[i] = Math.max(owned.end[i], owned.start[i]);
    owned.middle.push(clamp((windows.start[i] + windows.end[i]) / 2, owned.start[i], owned.end[i]));
  }
  const windowAt = (seconds) => {
    if (count === 1) return 0;
    const i = firstAtLeast(owned.start, seconds + 1e-6) - 1;
    if (i < 0) return -1;
    return seconds < owned.end[i] || (i === count - 1 && seconds <= owned.end[i] + 0.3) ? i : -1;
  };

  // ---------------------------------------------------------------- state
  const from = data.start, to = Math.max(data.end, data.start + 0.001);
  const still = to - from < 0.01;
  const state = { now: from, view: [from, to], task: tasks.length ? tasks[0].name : null, raw: true, window: -2, chunk: -1, line: -2 };

  // ---------------------------------------------------------------- timeline
  let lanes = [], grounds = null, width = 0, playhead = null, hover = null, tip = null;
  const x = (seconds) => GUTTER + (seconds - state.view[0]) / (state.view[1] - state.view[0]) * (width - GUTTER - RIGHT);
  const secondsAt = (pixel) => clamp(
    state.view[0] + (pixel - GUTTER) / (width - GUTTER - RIGHT) * (state.view[1] - state.view[0]), from, to);

  // Runs of neighbouring windows with a value; with more windows than pixels, a pixel's lowest and highest remain.
  const runs = (values) => {
    const first = Math.max(0, firstAtLeast(owned.end, state.view[0]) - 1);
    let last = firstAtLeast(owned.start, state.view[1]) + 1;
    last = Math.min(count, last);
    const found = [];
    let run = null, before = -1;
    for (let i = first; i < last; i++) {
      const value = values[i];
      if (value === null || value === undefined) { run = null; continue; }
      if (!run || owned.start[i] > owned.end[before] + 0.001) { run = []; found.push(run); }
      run.push({ a: owned.start[i], m: owned.middle[i], b: owned.end[i], v: value });
      before = i;
    }
    const room = 1.5 * (width - GUTTER - RIGHT);
    return last - first <= room ? found : found.map((one) => thin(one));
  };
  const thin = (run) => {
    const kept = [];
    let bucket = [], pixel = null;
    const empty = () => {
      if (!bucket.length) return;
      const a = bucket[0].a, b = bucket[bucket.length - 1].b, half = (a + b) / 2;
      let low = bucket[0], high = bucket[0];
      for (const one of bucket) { if (one.v < low.v) low = one; if (one.v > high.v) high = one; }
      const pair = low.m <= high.m ? [low, high] : [high, low];
      kept.push({ a, m: (a + half) / 2, b: half, v: pair[0].v }, { a: half, m: (half + b) / 2, b, v: pair[1].v });
      bucket = [];
    };
    for (const one of run) {
      const own = Math.floor(x(one.m));
      if (own !== pixel) { empty(); pixel = own; }
      bucket.push(one);
    }
    empty();
    return kept;
  };
  const p = (value) => value.toFixed(1);
  const smoothPath = (values, y) => runs(values).map((run) => {
    const points = [[run[0].a, run[0].v], ...run.map((one) => [one.m, one.v]), [run[run.length - 1].b, run[run.length - 1].v]];
    return points.map(([at, v], i) => `${i ? "L" : "M"}${p(x(at))} ${p(y(v))}`).join("");
  }).join("");
  const areaPath = (values, y, ground) => runs(values).map((run) => {
    const last = run[run.length - 1];
    return `M${p(x(run[0].a))} ${p(ground)}L${p(x(run[0].a))} ${p(y(run[0].v))}` +
      run.map((one) => `L${p(x(one.m))} ${p(y(one.v))}`).join("") +
      `L${p(x(last.b))} ${p(y(last.v))}L${p(x(last.b))} ${p(ground)}Z`;
  }).join("");
  const stepPath = (values, y) => runs(values).map((run) =>
    run.map((one, i) => `${i ? "L" : "M"}${p(x(one.a))} ${p(y(one.v))}H${p(x(one.b))}`).join("")).join("");
  const stepArea = (values, y, ground) => runs(values).map((run) =>
    `M${p(x(run[0].a))} ${p(ground)}` + run.map((one) => `L${p(x(one.a))} ${p(y(one.v))}H${p(x(one.b))}`).join("") +
    `V${p(ground)}Z`).join("");
  const bandPath = (low, high, y) => {
    const tops = runs(high), bottoms = runs(low);
    return tops.map((run, k) => {
      const up = run.map((one, i) => `${i ? "L" : "M"}${p(x(one.a))} ${p(y(one.v))}H${p(x(one.b))}`).join("");
      const down = bottoms[k].slice().reverse().map((one) => `L${p(x(one.b))} ${p(y(one.v))}H${p(x(one.a))}`).join("");
      return `${up}${down}Z`;
    }).join("");
  };
  // Stretches in which a list holds the same thing, joined where they touch; one that is narrower than so many pixels
  // joins the one before, so that there are never more than the screen has room for.
  const stretches = (values, least) => {
    const first = Math.max(0, firstAtLeast(owned.end, state.view[0]) - 1);
    const last = Math.min(count, firstAtLeast(owned.start, state.view[1]) + 1);
    const found = [];
    for (let i = first; i < last; i++) {
      if (values[i] === null) continue;
      const one = found[found.length - 1];
      const close = one && x(owned.start[i]) - x(one.b) < 0.75;
      const narrow = one && (x(owned.end[i]) - x(owned.start[i]) < least || x(one.b) - x(one.a) < least);
      if (close && (one.value === values[i] || narrow)) one.b = owned.end[i];
      else found.push({ a: owned.start[i], b: owned.end[i], value: values[i] });
    }
    return found;
  };
  const extent = (task) => {
    if (task.extent) return task.extent;
    let most = 0;
    for (const list of [task.raw, task.low, task.high]) for (const v of list) if (v !== null) most = Math.max(most, Math.abs(v));
    const nice = [0.25, 0.5, 1, 2, 3, 5, 10, 20, 50, 100].find((one) => one >= most - 1e-9) || Math.ceil(most);
    task.extent = nice;
    return nice;
  };
  const reach = (name) => {
    let most = 0.02;
    for (const one of modalities) for (const v of one.moved[name]) if (v !== null) most = Math.max(most, Math.abs(v));
    return most;
  };

  const label = (svg, y, text, strong) => {
    const element = draw("text", { x: GUTTER - 10, y: y, "text-anchor": "end", "dominant-baseline": "central", class: strong ? "strong" : "" }, shorten(text, 13));
    element.append(draw("title", {}, text));
    svg.append(element);
  };
  const ground = (y, height) => grounds.append(draw("rect", { class: "ground", x: GUTTER, y, width: Math.max(0, width - GUTTER - RIGHT), height, rx: 3 }));
  const clipped = (svg) => {
    const group = draw("g", { "clip-path": "url(#inside)" });
    svg.append(group);
    return group;
  };

  const axis = (svg, top, bottom) => {
    const span = state.view[1] - state.view[0];
    const wanted = span / Math.max(2, (width - GUTTER) / 80);
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find((one) => one >= wanted) || 14400;
    for (let at = Math.ceil(state.view[0] / step) * step; at <= state.view[1] + 1e-6; at += step) {
      svg.append(draw("line", { class: "grid", x1: p(x(at)), x2: p(x(at)), y1: top, y2: bottom }));
      if (x(at) < width - 14) svg.append(draw("text", { x: p(x(at)), y: 10, "text-anchor": "middle" }, clock(at, step < 1)));
    }
  };
  const valueLane = (svg, task, top) => {
    const height = 116, most = extent(task), y = (v) => top + height / 2 - v / most * (height / 2 - 4);
    ground(top, height);
    label(svg, top + height / 2, task.name, true);
    label(svg, top + 9, signed(most));
    label(svg, top + height - 9, signed(-most));
    const inside = clipped(svg);
    inside.append(draw("path", { class: "band", d: bandPath(task.low, task.high, y) }));
    inside.append(draw("line", { class: "zero", x1: GUTTER, x2: width - RIGHT, y1: y(0), y2: y(0) }));
    if (state.raw) inside.append(draw("path", { class: "raw", d: stepPath(task.raw, y) }));
    inside.append(draw("path", { class: "smoothed c1", d: smoothPath(task.smoothed, y) }));
    return height;
  };
  const leading = (task) => {
    if (!task.leading) {
      task.leading = Array.from({ length: count }, (_, i) => {
        let best = null;
        task.smoothed.forEach((list, k) => { if (list[i] !== null && (best === null || list[i] > task.smoothed[best][i])) best = k; });
        return best;
      });
    }
    return task.leading;
  };
  const classLane = (svg, task, top) => {
    let y0 = top;
    label(svg, y0 + 9, task.name, true);
    ground(y0, 18);
    const ribbon = clipped(svg);
    const shapes = task.classes.map(() => "");
    for (const one of stretches(leading(task), 0.75)) {
      shapes[one.value] += `M${p(x(one.a))} ${y0}H${p(Math.max(x(one.a) + 0.75, x(one.b)))}v18H${p(x(one.a))}Z`;
    }
    shapes.forEach((d, k) => { if (d) ribbon.append(draw("path", { class: `bar c${task.colours[k]}`, d })); });
    y0 += 24;
    const height = 21;
    task.classes.forEach((name, k) => {
      const bottom = y0 + height, y = (v) => bottom - v * (height - 1);
      ground(y0, height);
      label(svg, y0 + height / 2, name);
      const inside = clipped(svg);
      inside.append(draw("path", { class: `area c${task.colours[k]}`, d: areaPath(task.smoothed[k], y, bottom) }));
      if (state.raw) inside.append(draw("path", { class: "outline", d: stepPath(task.raw[k], y) }));
      y0 += height + 3;
    });
    return y0 - top - 3;
  };
  const modalityLane = (svg, one, top, most) => {
    const height = 40, middle = top + height / 2, y = (v) => middle - v / most * (height / 2 - 2);
    ground(top, height);
    label(svg, middle, one.name, true);
    const inside = clipped(svg);
    const gaps = stretches(one.present.map((there, i) => (there ? null : one.reason[i])), 4);
    const d = gaps.map((gap) => `M${p(x(gap.a))} ${top}H${p(Math.max(x(gap.a) + 1.5, x(gap.b)))}v${height}H${p(x(gap.a))}Z`).join("");
    if (d) inside.append(draw("path", { d, class: "hatch-ground" }), draw("path", { d, fill: "url(#hatch)" }));
    for (const gap of gaps) {
      const left = Math.max(GUTTER, x(gap.a)), wide = Math.min(width - RIGHT, x(gap.b)) - left;
      if (wide < 90) continue;
      const text = shorten(reasons[gap.value], Math.floor(wide / 7));
      inside.append(draw("rect", { x: p(left + 6), y: middle - 9, width: p(Math.min(wide - 12, text.length * 6.8 + 8)), height: 18, rx: 3, class: "hatch-ground" }));
      inside.append(draw("text", { x: p(left + 10), y: middle, "dominant-baseline": "central" }, text));
    }
    const moved = state.task === null ? [] : one.moved[state.task];
    const part = (sign) => moved.map((v) => (v === null || v === undefined ? null : sign > 0 ? Math.max(0, v) : Math.min(0, v)));
    inside.append(draw("path", { class: "bar c1", d: stepArea(part(1), y, middle) }));
    inside.append(draw("path", { class: "bar c2", d: stepArea(part(-1), y, middle) }));
    inside.append(draw("line", { class: "zero", x1: GUTTER, x2: width - RIGHT, y1: middle, y2: middle }));
    return height;
  };

  const paint = () => {
    width = Math.max(260, box.clientWidth);
    const svg = draw("svg", { "aria-hidden": "true" });
    const definitions = draw("defs");
    const hatch = draw("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    hatch.append(draw("line", { class: "hatch-line", x1: 0, x2: 0, y1: 0, y2: 7 }));
    const inside = draw("clipPath", { id: "inside" });
    definitions.append(hatch, inside);
    svg.append(definitions);
    let top = 22;
    lanes = [];
    const place = (kind, task, height) => { lanes.push({ kind, task, top, height }); top += height + 14; };
    const grid = draw("g");
    const content = draw("g");
    grounds = draw("g");
    svg.append(grounds, grid, content);
    for (const task of tasks) {
      const height = task.kind === "value" ? valueLane(content, task, top) : classLane(content, task, top);
      place(task.kind, task, height);
    }
    if (modalities.length) {
      const most = state.task === null ? 1 : reach(state.task);
      label(content, top + 6, "contributions");
      if (state.task !== null) {
        content.append(draw("text", { x: GUTTER, y: top + 6, "dominant-baseline": "central" },
          `to ${state.task}, up is higher; full height is ${most.toFixed(2)}`));
      }
      top += 20;
      for (const one of modalities) { const height = modalityLane(content, one, top, most); lanes.push({ kind: "modality", task: one, top, height }); top += height + 6; }
    }
    const bottom = top;
    axis(grid, 18, bottom);
    inside.append(draw("rect", { x: GUTTER, y: 0, width: Math.max(0, width - GUTTER - RIGHT), height: bottom }));
    playhead = draw("g");
    playhead.append(draw("line", { class: "playhead", y1: 14, y2: bottom }), draw("path", { class: "knob", d: "M-5 8H5L0 16Z" }));
    hover = draw("line", { class: "hover", y1: 18, y2: bottom, visibility: "hidden" });
    svg.append(hover, playhead);
    svg.setAttribute("height", bottom + 4);
    svg.setAttribute("viewBox", `0 0 ${width} ${bottom + 4}`);
    tip = make("div", { class: "tip", hidden: "" });
    box.replaceChildren(svg, tip);
    movePlayhead();
  };
  const movePlayhead = () => {
    const at = x(state.now);
    playhead.setAttribute("transform", `translate(${p(at)} 0)`);
    playhead.setAttribute("visibility", at >= GUTTER - 1 && at <= width - RIGHT + 1 ? "visible" : "hidden");
  };

  // ---------------------------------------------------------------- what holds now
  const bars = (task, i) => {
    const grid = make("div", { class: "bars" });
    const held = task.kind === "class" ? [leading(task)[i]] : task.classes.map((_, k) => k).filter((k) => task.smoothed[k][i] > 0.5);
    task.classes.forEach((name, k) => {
      const bar = make("i", { class: `c${task.colours[k]}` });
      bar.style.setProperty("--w", `${100 * task.smoothed[k][i]}%`);
      grid.append(make("b", held.includes(k) ? { class: "held" } : {}, name), bar, make("span", {}, percent(task.smoothed[k][i])));
    });
    return grid;
  };
  const aloneWords = (one) => {
    if (one === null || one === undefined) return "";
    if (typeof one === "number") return signed(one);
    return one.length ? one.map(([name, share]) => `${name} ${percent(share)}`).join(", ") : "none";
  };
  const parts = (i) => {
    const weights = modalities.some((one) => one.weight[i] !== null);
    const head = ["modality", "moved it by", "alone", ...(weights ? ["weight"] : [])];
    const body = make("tbody");
    for (const one of modalities) {
      if (!one.present[i]) {
        const why = make("td", { colspan: String(head.length - 1), class: "away" }, `missing: ${reasons[one.reason[i]]}`);
        body.append(make("tr", {}, make("th", { scope: "row" }, one.name), why));
        continue;
      }
      const moved = one.moved[state.task][i];
      body.append(make("tr", {}, make("th", { scope: "row" }, one.name),
        make("td", { class: "num" }, moved === null ? "–" : signed(moved)),
        make("td", {}, aloneWords(one.alone[state.task][i])),
        ...(weights ? [make("td", { class: "num" }, one.weight[i] === null ? "–" : one.weight[i].toFixed(2))] : [])));
    }
    const row = make("tr", {}, ...head.map((name, k) => make("th", { scope: "col", class: k === 1 || k === 3 ? "num" : "" }, name)));
    return make("table", { class: "parts" }, make("thead", {}, row), body);
  };
  const showNow = () => {
    const i = state.window, place = byId("now");
    const words = byId("now-window");
    if (i < 0) {
      words.textContent = "";
      place.replaceChildren(make("p", { class: "note" }, "No window covers this moment."));
      return;
    }
    const speaker = windows.speaker[i] === null ? "" : `, ${speakers[windows.speaker[i]]}`;
    words.textContent = still ? "" : `window ${windows.number[i] + 1}: ${clock(windows.start[i], true)}–${clock(windows.end[i], true)}${speaker}`;
    const children = [];
    let scored = false;
    for (const task of tasks) {
      const value = task.kind === "value" ? task.smoothed[i] : task.smoothed[0][i];
      if (value === null) continue;
      scored = true;
      children.push(make("h3", {}, task.name));
      if (task.kind === "value") {
        const more = task.low[i] === null ? `raw ${signed(task.raw[i])}` : `raw ${signed(task.raw[i])}, interval ${signed(task.low[i])} to ${signed(task.high[i])}`;
        children.push(make("p", { class: "big" }, signed(value), " ", make("small", {}, more)));
      } else children.push(bars(task, i));
    }
    if (!scored) children.push(make("p", { class: "warn" }, "Nothing could be scored here."));
    if (modalities.length && state.task !== null) {
      children.push(make("h3", {}, `what moved ${state.task}`), make("div", { class: "scroll" }, parts(i)));
    }
    place.replaceChildren(...children);
  };

  // ---------------------------------------------------------------- transcript
  const starts = lines.map((one) => one[0]);
  const lineAt = (seconds) => {
    for (let i = firstAtLeast(starts, seconds + 1e-6) - 1, tries = 0; i >= 0 && tries < 8; i--, tries++) if (seconds < lines[i][1]) return i;
    return -1;
  };
  const showLines = (chunk) => {
    state.chunk = chunk;
    const first = chunk * LINES_SHOWN, last = Math.min(lines.length, first + LINES_SHOWN);
    const place = byId("words"), shown = [];
    const turn = (text, to) => {
      const button = make("button", { type: "button", class: "line" }, make("span"), text);
      button.addEventListener("click", () => { showLines(to); state.line = -2; showLine(false); });
      return button;
    };
    if (first > 0) shown.push(turn("earlier lines …", chunk - 1));
    for (let i = first; i < last; i++) {
      const [start, , speaker, text] = lines[i];
      const said = make("span", {}, ...(speaker === null ? [] : [make("em", {}, speakers[speaker])]), text);
      const button = make("button", { type: "button", class: "line", "data-line": String(i) }, make("time", {}, clock(start)), said);
      button.addEventListener("click", () => seek(start));
      shown.push(button);
    }
    if (last < lines.length) shown.push(turn("later lines …", chunk + 1));
    place.replaceChildren(...shown);
    place.scrollTop = 0;
  };
  const showLine = (follow) => {
    if (!lines.length) return;
    const i = lineAt(state.now);
    if (follow) {
      const near = i >= 0 ? i : Math.max(0, firstAtLeast(starts, state.now) - 1);
      const chunk = Math.floor(near / LINES_SHOWN);
      if (chunk !== state.chunk) { showLines(chunk); state.line = -2; }
    }
    if (i === state.line) return;
    state.line = i;
    const place = byId("words");
    for (const one of place.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    const current = place.querySelector(`[data-line="${i}"]`);
    if (!current) return;
    current.setAttribute("aria-current", "true");
    if (follow) {
      const above = current.offsetTop - place.scrollTop, below = above + current.offsetHeight - place.clientHeight;
      if (above < 0 || below > 0) place.scrollTop = current.offsetTop - place.clientHeight / 3;
    }
  };

  // ---------------------------------------------------------------- time
  const show = (seconds) => {
    state.now = clamp(seconds, from, to);
    const [a, b] = state.view;
    if (state.now < a || state.now > b) look(state.now - (b - a) * 0.1, b - a);
    else movePlayhead();
    const i = windowAt(state.now);
    if (i !== state.window) { state.window = i; showNow(); }
    byId("now-time").textContent = clock(state.now, true);
    box.setAttribute("aria-valuenow", state.now.toFixed(2));
    box.setAttribute("aria-valuetext", spoken(i));
    showLine(true);
  };
  const spoken = (i) => {
    const said = [clock(state.now)];
    if (i >= 0) for (const task of tasks) {
      if (task.kind === "value" && task.smoothed[i] !== null) said.push(`${task.name} ${signed(task.smoothed[i])}`);
      if (task.kind === "class" && leading(task)[i] !== null) said.push(`${task.classes[leading(task)[i]]} ${percent(task.smoothed[leading(task)[i]][i])}`);
      if (task.kind === "labels" && task.smoothed[0][i] !== null) said.push(task.classes.filter((_, k) => task.smoothed[k][i] > 0.5).join(", ") || `no ${task.name}`);
    }
    return said.join(", ");
  };
  const seek = (seconds) => {
    const at = clamp(seconds, from, to);
    if (media) {
      if (media.readyState > 0) media.currentTime = inMedia(at);
      else media.addEventListener("loadedmetadata", () => { media.currentTime = inMedia(at); }, { once: true });
    }
    show(at);
  };
  // The overlay of a segment begins at its start.
  let offset = 0;
  const inMedia = (seconds) => Math.max(0, seconds - offset);
  const look = (start, span) => {
    const wide = clamp(span, Math.min(to - from, 2), to - from);
    const left = clamp(start, from, to - wide);
    state.view = [left, left + wide];
    byId("zoom-out").disabled = byId("zoom-all").disabled = wide >= to - from - 1e-6;
    byId("zoom-in").disabled = wide <= Math.min(to - from, 2) + 1e-6;
    paint();
  };
  const zoom = (factor) => {
    const span = (state.view[1] - state.view[0]) * factor;
    look(state.now - span / 2, span);
  };

  if (media) {
    let frame = 0;
    const follow = () => { show(media.currentTime + offset); if (!media.paused && !media.ended) frame = requestAnimationFrame(follow); };
    media.addEventListener("play", () => { cancelAnimationFrame(frame); follow(); });
    for (const kind of ["timeupdate", "seeked", "pause", "ended"]) {
      media.addEventListener(kind, () => { if (!media.seeking && media.readyState > 0 && Math.abs(media.currentTime + offset - state.now) > 0.05) show(media.currentTime + offset); });
    }
    media.addEventListener("error", () => {
      const place = byId("media-error");
      place.hidden = false;
      place.textContent = media.currentSrc.startsWith("data:")
        ? "This browser cannot play the media in this page. The timeline works without it."
        : "The media cannot be played: it is not where this page looks for it, or this browser cannot play it. The timeline works without it.";
    });
    if (data.overlay && media.tagName === "VIDEO") {
      const button = byId("overlay"), plain = media.getAttribute("src");
      button.hidden = false;
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true", playing = !media.paused, at = state.now;
        button.setAttribute("aria-pressed", String(on));
        byId("media-error").hidden = true;
        offset = on ? data.start : 0;
        media.src = on ? data.overlay : plain;
        seek(at);
        if (playing) media.play();
      });
    }
  }

  // ---------------------------------------------------------------- what the reader does
  const pixelOf = (event) => event.clientX - box.getBoundingClientRect().left;
  let dragging = false;
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    box.setPointerCapture(event.pointerId);
    seek(secondsAt(pixelOf(event)));
  });
  box.addEventListener("pointermove", (event) => {
    const pixel = pixelOf(event);
    if (dragging) seek(secondsAt(pixel));
    point(pixel, event.clientY - box.getBoundingClientRect().top);
  });
  for (const kind of ["pointerup", "pointercancel"]) box.addEventListener(kind, () => { dragging = false; });
  box.addEventListener("pointerleave", () => { hover.setAttribute("visibility", "hidden"); tip.hidden = true; });
  const point = (pixel, height) => {
    if (pixel < GUTTER || pixel > width - RIGHT) { hover.setAttribute("visibility", "hidden"); tip.hidden = true; return; }
    const at = secondsAt(pixel), i = windowAt(at);
    hover.setAttribute("visibility", "visible");
    hover.setAttribute("x1", pixel); hover.setAttribute("x2", pixel);
    tip.hidden = false;
    tip.replaceChildren(make("strong", {}, clock(at, true)), ` ${i < 0 ? "no window" : tipWords(i, height)}`);
    const right = pixel + tip.offsetWidth + 14 > width;
    tip.style.left = `${right ? Math.max(0, pixel - tip.offsetWidth - 10) : pixel + 10}px`;
    tip.style.top = `${Math.max(0, height + 14)}px`;
  };
  const tipWords = (i, height) => {
    const lane = lanes.find((one) => height >= one.top - 6 && height <= one.top + one.height + 6);
    if (!lane) return "";
    const { kind, task } = lane;
    if (kind === "modality") {
      if (!task.present[i]) return `${task.name} missing: ${reasons[task.reason[i]]}`;
      const moved = state.task === null ? null : task.moved[state.task][i];
      return moved === null ? task.name : `${task.name} moved ${state.task} by ${signed(moved)}`;
    }
    if (kind === "value") return task.smoothed[i] === null ? "not scored" : `${task.name} ${signed(task.smoothed[i])} (raw ${signed(task.raw[i])})`;
    if (task.smoothed[0][i] === null) return "not scored";
    const row = Math.floor((height - lane.top - 24) / 24);
    const k = row >= 0 && row < task.classes.length ? row : leading(task)[i];
    return `${task.classes[k]} ${percent(task.smoothed[k][i])} (raw ${percent(task.raw[k][i])})`;
  };
  const toggle = () => { if (media) { if (media.paused) media.play(); else media.pause(); } };
  const neighbour = (by) => {
    const i = state.window >= 0 ? state.window + by : firstAtLeast(owned.start, state.now) + (by > 0 ? 0 : -1);
    if (i >= 0 && i < count) seek(owned.middle[i]);
  };
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => seek(state.now - 1), ArrowDown: () => seek(state.now - 1),
      ArrowRight: () => seek(state.now + 1), ArrowUp: () => seek(state.now + 1),
      PageUp: () => neighbour(-1), PageDown: () => neighbour(1), Home: () => seek(from), End: () => seek(to),
      " ": toggle, "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => look(from, to - from),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  });
  byId("zoom-in").addEventListener("click", () => zoom(0.5));
  byId("zoom-out").addEventListener("click", () => zoom(2));
  byId("zoom-all").addEventListener("click", () => look(from, to - from));
  byId("raw").addEventListener("change", (event) => { state.raw = event.target.checked; paint(); });
  for (const button of document.querySelectorAll("[data-seek]")) {
    button.addEventListener("click", () => seek(Number(button.dataset.seek)));
  }
  const fromAddress = () => {
    const found = /^#t=(\d+(?:\.\d+)?)$/.exec(location.hash);
    if (found) seek(Number(found[1]));
  };
  window.addEventListener("hashchange", fromAddress);

  // ---------------------------------------------------------------- begin
  box.setAttribute("aria-valuemin", from.toFixed(2));
  box.setAttribute("aria-valuemax", to.toFixed(2));
  if (tasks.length > 1) {
    const choice = byId("task-choice");
    choice.hidden = false;
    tasks.forEach((task, k) => {
      const input = make("input", { type: "radio", name: "task", value: task.name });
      input.checked = k === 0;
      input.addEventListener("change", () => { state.task = task.name; paint(); showNow(); });
      choice.append(make("label", {}, input, task.name));
    });
  }
  const legend = byId("legend");
  const mark = (kind, text) => legend.append(make("span", {}, make("i", { class: kind }), text));
  if (tasks.some((one) => one.kind === "value")) {
    mark("line-mark thick", "smoothed");
    mark("line-mark", "raw");
    if (tasks.some((one) => one.kind === "value" && one.high.some((v) => v !== null))) mark("band-mark", "interval of a window");
  }
  mark("c1", "moves it up");
  mark("c2", "moves it down");
  mark("hatch-mark", "missing");
  if (lines.length) byId("words-card").hidden = false;
  look(from, to - from);
  let drawn = box.clientWidth;
  new ResizeObserver(() => { if (box.clientWidth !== drawn) { drawn = box.clientWidth; paint(); } }).observe(box);
  show(from);
  fromAddress();
})();
