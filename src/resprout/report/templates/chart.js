// The curves: axes are chosen, curves switched on and off, points read by pointer or arrow keys.
const data = JSON.parse(document.getElementById("data").textContent).plot;
const get = (id) => document.getElementById(id);
const NS = "http://www.w3.org/2000/svg";
const DASHES = ["", "7 4", "2 3", "10 3 2 3", "14 4", "5 2 1 2 1 2"];
const COLOURS = 7;
const MARGIN = { left: 64, right: 16, top: 14, bottom: 50 };
const svg = get("plot");
const on = data.curves.map(() => true);
let points = []; // of the present drawing: {curve, level, px, py}
let chosen = null;

const make = (parent, name, attributes, text) => {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "colour") element.style.color = value;
    else element.setAttribute(key, value);
  }
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
};
const colour = (curve) => `var(--c${curve.colour % COLOURS})`;
const short = (value) => {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${Number((value / (letter === "k" ? 1e3 : unit)).toPrecision(4))} ${letter}`;
  }
  return String(Number(value.toPrecision(4)));
};

// A marker's outline about (x, y), radius r; curves differ in it as in colour and dash.
const marker = (parent, curve, x, y, r) => {
  const kinds = [
    () => make(parent, "circle", { cx: x, cy: y, r }),
    () => make(parent, "rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
    () => make(parent, "path", { d: `M${x},${y - 1.25 * r}l${1.2 * r},${2.1 * r}h${-2.4 * r}z` }),
    () => make(parent, "path", { d: `M${x},${y - 1.4 * r}l${1.4 * r},${1.4 * r}l${-1.4 * r},${1.4 * r}l${-1.4 * r},${-1.4 * r}z` }),
    () => make(parent, "path", { d: `M${x},${y + 1.25 * r}l${1.2 * r},${-2.1 * r}h${-2.4 * r}z` }),
  ];
  const shape = kinds[(curve.colour + curve.dash) % kinds.length]();
  shape.style.fill = curve.published ? "var(--card)" : colour(curve);
  shape.style.stroke = colour(curve);
  return shape;
};

const ticks = (low, high, log) => {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    }
    const within = found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    if (within.length >= 3) return within;
  }
  const rough = (high - low) / 5 || 1;
  const base = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * base).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
};

const scale = (values, log, from, to) => {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
  const of = log ? Math.log : (v) => v;
  const pad = (of(high) - of(low)) * 0.05;
  const [a, b] = [of(low) - pad, of(high) + pad];
  const place = (v) => from + ((of(v) - a) / (b - a)) * (to - from);
  const back = log ? Math.exp : (v) => v;
  return { place, ticks: ticks(back(a), back(b), log).map((t) => (Math.abs(t) < 1e-12 ? 0 : t)) };
};

const label = (axes, key) => axes.find((axis) => axis.key === key).label;

// What is drawn: per curve that is on its levels with a place on both axes.
const shownCurves = () => {
  const [x, y] = [get("x").value, get("y").value];
  return data.curves.flatMap((curve, number) => {
    const [xs, ys] = [curve.x[x], curve.y[y]];
    if (!on[number] || !xs || !ys) return [];
    const levels = xs.map((_, i) => i).filter((i) => xs[i] !== null && ys.value[i] !== null);
    const before = get("before").checked && y === data.loss && curve.y.before ? curve.y.before.value : null;
    return [{ curve, number, xs, ys, levels, before }];
  });
};

const draw = () => {
  svg.replaceChildren();
  points = [];
  const width = Math.max(300, svg.parentElement.clientWidth - 14);
  const height = Math.round(Math.min(460, Math.max(280, width * 0.55)));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  const drawn = shownCurves();
  const bars = get("bars").checked;
  const xs = drawn.flatMap((d) => d.levels.map((i) => d.xs[i]));
  const ys = drawn.flatMap((d) => d.levels.flatMap((i) => [
    d.ys.value[i], ...(bars && d.ys.low[i] !== null ? [d.ys.low[i], d.ys.high[i]] : []),
    ...(d.before && d.before[i] !== null ? [d.before[i]] : []),
  ]));
  if (!xs.length) {
    make(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to draw: no curve that is on has figures on both axes");
    return;
  }
  for (const [box, values] of [["logx", xs], ["logy", ys]]) {
    get(box).disabled = Math.min(...values) <= 0;
    if (get(box).disabled) get(box).checked = false;
  }
  get("before").disabled = get("y").value !== data.loss || !data.curves.some((c) => c.y.before);
  const across = scale(xs, get("logx").checked, MARGIN.left, width - MARGIN.right);
  const up = scale(ys, get("logy").checked, height - MARGIN.bottom, MARGIN.top);
  let last = -Infinity;
  for (const tick of across.ticks) {
    const x = across.place(tick);
    make(svg, "line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: height - MARGIN.bottom });
    if (x - last > 48) {
      make(svg, "text", { x, y: height - MARGIN.bottom + 18, "text-anchor": "middle" }, short(tick));
      last = x;
    }
  }
  for (const tick of up.ticks) {
    const y = up.place(tick);
    make(svg, "line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y });
    make(svg, "text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, short(tick));
  }
  make(svg, "path", { class: "axis", fill: "none", d: `M${MARGIN.left},${MARGIN.top}V${height - MARGIN.bottom}H${width - MARGIN.right}` });
  const size = width < 480 ? 11 : 13;
  make(svg, "text", { x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 8, "text-anchor": "middle", style: `font-size:${size}px` }, label(data.x, get("x").value));
  make(svg, "text", { transform: `translate(14 ${(height - MARGIN.bottom) / 2}) rotate(-90)`, "text-anchor": "middle", style: `font-size:${size}px` }, label(data.y, get("y").value));
  for (const { curve, number, xs: places, ys: values, levels, before } of drawn) {
    const group = make(svg, "g", { "data-curve": number });
    const line = (of) => `M${levels.filter((i) => of[i] !== null).map((i) => `${across.place(places[i]).toFixed(1)},${up.place(of[i]).toFixed(1)}`).join("L")}`;
    if (before) {
      const path = make(group, "path", { d: line(before), fill: "none", "stroke-width": 1.2, "stroke-dasharray": "1 4", "stroke-linecap": "round" });
      path.style.stroke = colour(curve);
    }
    const path = make(group, "path", { d: line(values.value), fill: "none", "stroke-width": 2, "stroke-dasharray": DASHES[curve.dash % DASHES.length] });
    path.style.stroke = colour(curve);
    for (const i of levels) {
      const [px, py] = [across.place(places[i]), up.place(values.value[i])];
      if (bars && values.low[i] !== null) {
        const [top, bottom] = [up.place(values.high[i]), up.place(values.low[i])];
        const bar = make(group, "path", { class: "bar", d: `M${px},${top}V${bottom}M${px - 4},${top}h8M${px - 4},${bottom}h8`, fill: "none", "stroke-width": 1.3 });
        bar.style.stroke = colour(curve);
      }
      marker(group, curve, px, py, 4.5);
      points.push({ number, level: i, px, py });
    }
  }
  if (chosen !== null && !points.some((p) => p.number === chosen.number && p.level === chosen.level)) chosen = null;
  ring();
};

// Among many curves the chosen one stands out, and the intervals of the others are faint.
const MANY = 6;
const ring = () => {
  svg.querySelectorAll(".ring").forEach((old) => old.remove());
  const groups = [...svg.querySelectorAll("g[data-curve]")];
  groups.forEach((group) => {
    const own = chosen !== null && Number(group.dataset.curve) === chosen.number;
    group.classList.toggle("chosen", own);
    if (own && group !== svg.querySelector("g[data-curve]:last-of-type")) svg.append(group);
  });
  svg.classList.toggle("many", groups.length > MANY);
  svg.classList.toggle("picked", chosen !== null);
  if (chosen === null) return;
  const at = points.find((p) => p.number === chosen.number && p.level === chosen.level);
  if (!at) return;
  const circle = make(svg, "circle", { class: "ring", cx: at.px, cy: at.py, r: 9, fill: "none", "stroke-width": 2 });
  circle.style.stroke = "var(--ink)";
};

const read = (point) => {
  if (chosen && point.number === chosen.number && point.level === chosen.level) return;
  chosen = point;
  ring();
  const curve = data.curves[point.number];
  const [x, y] = [get("x").value, get("y").value];
  const values = curve.y[y];
  const [low, high] = [values.low[point.level], values.high[point.level]];
  const interval = low === null ? "" : ` (${short(low)} to ${short(high)})`;
  const cut = curve.x.amount ? `${short(curve.x.amount[point.level])}% asked for: ` : "";
  const seeds = curve.seeds > 1 ? `; mean of ${curve.seeds} seeds` : "";
  get("reading").textContent = `${curve.label}, ${cut}${label(data.y, y)} ${short(values.value[point.level])}${interval}; ${label(data.x, x)} ${short(curve.x[x][point.level])}${seeds}.`;
};

svg.addEventListener("pointermove", (event) => {
  const box = svg.getBoundingClientRect();
  const ratio = svg.viewBox.baseVal.width / box.width;
  const [x, y] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  let [nearest, distance] = [null, 900];
  for (const point of points) {
    const d = (point.px - x) ** 2 + (point.py - y) ** 2;
    if (d < distance) [nearest, distance] = [point, d];
  }
  if (nearest) read(nearest);
});
const leave = () => { chosen = null; ring(); };
svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== svg) leave(); });
svg.addEventListener("blur", leave);
svg.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { leave(); return; }
  const keys = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  if (!keys[event.key] || !points.length) return;
  event.preventDefault();
  const [otherCurve, otherLevel] = keys[event.key];
  if (chosen === null) { read(points[0]); return; }
  const numbers = [...new Set(points.map((p) => p.number))];
  const number = numbers[(numbers.indexOf(chosen.number) + otherCurve + numbers.length) % numbers.length];
  const own = points.filter((p) => p.number === number);
  const near = own.findIndex((p) => p.level >= chosen.level);
  const start = near < 0 ? own.length - 1 : near;
  read(own[Math.min(own.length - 1, Math.max(0, start + otherLevel))]);
});

const fill = (select, options) => {
  for (const { key, label: words } of options) select.append(new Option(words, key));
};
fill(get("x"), data.x);
fill(get("y"), data.y);
const groups = [];
for (const kind of ["protocol", "run", "subject", "method"]) {
  const names = [...new Set(data.curves.map((curve) => curve[kind]))].filter((name) => name);
  if (names.length > 1) names.forEach((name) => groups.push({ key: `${kind}:${name}`, label: `${kind} ${name}` }));
}
fill(get("show"), [{ key: "", label: "all curves" }, ...groups]);
get("show").parentElement.hidden = !groups.length;
const boxes = data.curves.map((curve, number) => {
  const words = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = on[number] = !curve.published;
  const swatch = make(words, "svg", { viewBox: "0 0 42 16", "aria-hidden": "true" });
  const line = make(swatch, "path", { d: "M1,8H41", "stroke-width": 2, "stroke-dasharray": DASHES[curve.dash % DASHES.length] });
  line.style.stroke = colour(curve);
  marker(swatch, curve, 21, 8, 4.5);
  words.prepend(box);
  words.append(curve.label);
  box.addEventListener("change", () => { on[number] = box.checked; draw(); });
  get("legend").append(words);
  return box;
});
get("show").addEventListener("change", () => {
  const [kind, ...name] = get("show").value.split(":");
  boxes.forEach((box, number) => {
    const curve = data.curves[number];
    box.checked = on[number] = kind ? curve[kind] === name.join(":") : !curve.published;
  });
  draw();
});
for (const id of ["x", "y", "logx", "logy", "bars", "before"]) get(id).addEventListener("change", draw);
get("chart").hidden = false;
draw();
new ResizeObserver(draw).observe(svg.parentElement);
