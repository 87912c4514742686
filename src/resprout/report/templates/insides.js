// Inside the models: layers by units, coloured by the share that was cut; heads by their state.
const drawings = JSON.parse(document.getElementById("data").textContent).insides;
// Two digits to the base of 36 are a share in thousandths.
const shares = (packed) => packed.match(/../g).map((pair) => Number.parseInt(pair, 36) / 1000);
for (const drawing of drawings) for (const row of drawing.rows) for (const box of row.boxes) box.cut = shares(box.cut);
const get = (id) => document.getElementById(id);
const NS = "http://www.w3.org/2000/svg";
const STATES = { active: "--c2", overloaded: "--c4", misaligned: "--c3", withdrawn: "--edge" };

const make = (parent, name, attributes, text) => {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
};
const percent = (share) => `${Number((100 * share).toFixed(1))}%`;
const tinted = (parent, share, x, y, width, height, title) => {
  const cell = make(parent, "rect", { x, y, width, height, "fill-opacity": share, "stroke-width": 0.6 });
  cell.style.fill = "var(--heat)";
  cell.style.stroke = "var(--edge)";
  make(cell, "title", {}, title);
};
const panel = (title, width, height, words) => {
  const block = document.createElement("div");
  const head = document.createElement("h3");
  head.textContent = title;
  const plot = document.createElement("div");
  plot.className = "plot map";
  plot.tabIndex = 0;
  plot.setAttribute("role", "region");
  plot.setAttribute("aria-label", title);
  const svg = make(plot, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  block.append(head, plot);
  get("maps").append(block);
  return svg;
};
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);

// Feedback goes from a late layer to an early one: a line beside the rows, its head at the target.
const LANE = 14;
const arcs = (svg, drawing, x, row) => {
  drawing.feedback.pairs.forEach(([source, target], i) => {
    const at = [source, target].map((layer) => drawing.rows.findIndex((own) => own.name === `layer ${layer}`));
    if (at.includes(-1)) return;
    const [from, to] = at.map((number) => 6 + number * row + 11);
    const lane = x + 14 + i * LANE;
    const arc = make(svg, "path", { class: "arc", d: `M${x},${from}H${lane}V${to}H${x + 8}`, fill: "none", "stroke-width": 1.6 });
    if (!drawing.feedback.used) arc.setAttribute("stroke-dasharray", "3 3");
    const head = make(svg, "path", { d: `M${x},${to}l9,-4.5v9z` });
    head.style.fill = "var(--ink)";
    make(arc, "title", {}, `feedback from layer ${source} to layer ${target}${drawing.feedback.used ? "" : ", unused: one pass"}`);
  });
};

const units = (drawing) => {
  const ROW = 30;
  const widest = Math.max(...drawing.rows.map((row) => row.boxes.reduce((sum, box) => sum + box.cut.length, 0) + row.boxes.length));
  const cell = Math.max(7, Math.min(26, Math.floor(760 / widest)));
  const feedback = drawing.feedback.pairs;
  const edge = 84 + widest * cell + 64;
  const width = edge + (feedback.length ? 20 + LANE * feedback.length : 6);
  const words = drawing.rows.map((row) => `${row.name}: ${row.boxes.map((box) => `${box.name} ${percent(mean(box.cut))}`.trim()).join(", ")}`).join("; ");
  const stretches = drawing.rows.some((row) => row.boxes.some((box) => box.units > box.cut.length));
  const title = `${drawing.units} of each layer${stretches ? ", in equal stretches" : ""}: share cut`;
  const back = feedback.length ? `. Feedback from layer to layer${drawing.feedback.used ? "" : ", unused with one pass"}: ${feedback.map((pair) => pair.join(" to ")).join(", ")}` : "";
  const svg = panel(title, width, drawing.rows.length * ROW + 8, `${title}. ${words}${back}`);
  drawing.rows.forEach((row, number) => {
    const y = 6 + number * ROW;
    make(svg, "text", { x: 4, y: y + 16 }, row.name);
    let x = 84;
    for (const box of row.boxes) {
      const dead = drawing.dead.includes(`${row.name} ${box.name}`);
      box.cut.forEach((share, i) => {
        const what = `${row.name} ${box.name} ${drawing.unit} ${i}`.replace(/ +/g, " ");
        tinted(svg, share, x + i * cell, y, cell, 22, `${what}: ${percent(share)} cut${dead ? "; dead, gone whole" : ""}`);
      });
      const frame = make(svg, "rect", { x, y, width: box.cut.length * cell, height: 22, fill: "none", "stroke-width": 1.6 });
      frame.style.stroke = "var(--ink)";
      if (dead) {
        const cross = make(svg, "path", { d: `M${x},${y}l${box.cut.length * cell},22m0,-22l${-box.cut.length * cell},22`, "stroke-width": 2 });
        cross.style.stroke = "var(--ink)";
      }
      x += (box.cut.length + 1) * cell;
    }
    make(svg, "text", { x: edge - 8, y: y + 16, "text-anchor": "end" }, percent(mean(row.boxes.flatMap((box) => box.cut))));
  });
  arcs(svg, drawing, edge, ROW);
};

const matrices = ({ names, rows }) => {
  const [CELL, ROW, HEAD] = [58, 26, 22];
  const left = 12 + 7.2 * Math.max(...rows.map((row) => row.name.length));
  const shortNames = names.map((name) => name.split(".").slice(-2).join("."));
  const head = HEAD + 5.2 * Math.max(...shortNames.map((name) => name.length));
  const width = left + names.length * CELL + 60;
  const words = rows.map((row) => `${row.name}: ${names.map((name, i) => (row.shares[i] === null ? "" : `${name} ${percent(row.shares[i])}`)).filter((w) => w).join(", ")}`).join("; ");
  const svg = panel("matrices of each layer: share of weights cut", width, head + rows.length * ROW + 6, `Share of weights cut. ${words}`);
  shortNames.forEach((name, i) => {
    make(svg, "text", { transform: `translate(${left + (i + 0.5) * CELL} ${head - 6}) rotate(-40)` }, name);
  });
  rows.forEach((row, number) => {
    const y = head + number * ROW;
    make(svg, "text", { x: 4, y: y + 17 }, row.name);
    row.shares.forEach((share, i) => {
      if (share === null) return;
      tinted(svg, share * 0.45, left + i * CELL, y, CELL, ROW - 2, `${row.name} ${names[i]}: ${percent(share)} cut`);
      make(svg, "text", { x: left + (i + 0.5) * CELL, y: y + 17, "text-anchor": "middle", "pointer-events": "none" }, percent(share));
    });
  });
};

const agency = (rows) => {
  const [CELL, ROW] = [92, 46];
  const left = 148;
  const most = Math.max(...rows.map((row) => row.heads.length));
  const words = rows.map((row) => `${row.name}: ${row.heads.map((head) => `${head.state}, gate ${head.gate}`).join("; ")}`).join(". ");
  const title = "agency: state and gate of each head that is left";
  const svg = panel(title, left + most * CELL + 6, rows.length * ROW + 6, words);
  rows.forEach((row, number) => {
    const y = 4 + number * ROW;
    make(svg, "text", { x: 4, y: y + 24 }, `${row.name}: ${row.heads.length} of ${row.of}`);
    row.heads.forEach((head, i) => {
      const x = left + i * CELL;
      const cell = make(svg, "rect", { x, y, width: CELL - 6, height: ROW - 8, rx: 4, "stroke-width": 2, "fill-opacity": head.state === "active" ? 0.08 : 0.3 });
      cell.style.fill = cell.style.stroke = `var(${STATES[head.state]})`;
      if (head.state === "withdrawn") cell.setAttribute("stroke-dasharray", "4 3");
      const told = [["utilisation", head.utilisation], ["alignment", head.alignment], ["uses without consent", head.violations || null]];
      make(cell, "title", {}, [`${row.name}, head ${i} of those left: ${head.state}, gate ${head.gate}`, ...told.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`)].join("; "));
      const middle = { x: x + CELL / 2 - 3, "text-anchor": "middle", "pointer-events": "none" };
      make(svg, "text", { ...middle, y: y + 16 }, head.state);
      make(svg, "text", { ...middle, y: y + 32 }, `gate ${Number(head.gate.toFixed(2))}`);
    });
  });
};
const told = (rows) => {
  const heads = rows.flatMap((row) => row.heads);
  const counts = Object.keys(STATES).map((state) => [state, heads.filter((head) => head.state === state).length]);
  const where = rows.filter((row) => row.heads.some((head) => head.state !== "active")).map((row) => row.name.replace("layer ", ""));
  const all = rows.reduce((sum, row) => sum + row.of, 0);
  return ` Of ${all} heads ${heads.length} are left: ${counts.filter(([, count]) => count).map(([state, count]) => `${count} ${state}`).join(", ")}${where.length ? ` (not active: in layers ${where.join(", ")})` : ""}.`;
};

const draw = () => {
  const own = drawings.filter((drawing) => drawing.curve === Number(get("whose").value));
  const drawing = own[get("depth").value];
  get("depthshown").textContent = `${Number((100 * drawing.amount).toFixed(4))}%`;
  get("depth").setAttribute("aria-valuetext", `${get("depthshown").textContent} cut`);
  get("maps").replaceChildren();
  if (drawing.rows.length) units(drawing);
  if (drawing.matrices.rows.length) matrices(drawing.matrices);
  if (drawing.agency.length) agency(drawing.agency);
  const dead = drawing.dead.length ? ` Dead, gone whole: ${drawing.dead.join(", ")}.` : "";
  const shades = drawing.rows.length ? " The stronger the colour, the more went; right of each row its mean." : "";
  const back = drawing.feedback.pairs.length ? ` Lines at the right: feedback from late layers to early ones${drawing.feedback.used ? "" : ", dashed because it is unused with one pass"}.` : "";
  get("mapwords").textContent = `${drawing.label}, seed ${drawing.seed}: ${percent(drawing.achieved)} of the prunable units cut.${shades}${back}${drawing.agency.length ? told(drawing.agency) : ""}${dead}`;
};
const choose = () => {
  const own = drawings.filter((drawing) => drawing.curve === Number(get("whose").value));
  const depth = get("depth");
  depth.max = own.length - 1;
  depth.value = Math.min(own.length - 1, Math.ceil(own.length / 2));
  draw();
};
if (drawings.length) {
  for (const [curve, label] of new Map(drawings.map((drawing) => [drawing.curve, drawing.label]))) {
    get("whose").append(new Option(label, curve));
  }
  get("whose").addEventListener("change", choose);
  get("depth").addEventListener("input", draw);
  get("inside").hidden = false;
  choose();
}
