// Tables that sort by a click on a heading, and copy as tab-separated text.
const said = document.getElementById("said");
const copy = async (text, what) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  said.textContent = `${what} copied`;
};
const button = (words, act) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = words;
  made.addEventListener("click", act);
  return made;
};
const valueOf = (cell) => {
  const given = cell.dataset.value ?? cell.textContent.trim();
  const number = Number.parseFloat(given.replace(/,/g, ""));
  return Number.isNaN(number) ? given : number;
};
const compare = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1; // figures before what has none
  if (typeof b === "number") return 1;
  return a.localeCompare(b);
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const words = head.textContent;
    head.replaceChildren(button(words, () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (down ? -1 : 1) * compare(valueOf(a.cells[column]), valueOf(b.cells[column])));
      table.tBodies[0].append(...rows);
    }));
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(button("copy table", () => {
    const words = (cell) => {
      const [first, ...others] = cell.innerText.trim().split(/\s*\n\s*/);
      return first.replace(/\s+/g, " ") + (others.length ? ` (${others.join("; ")})` : "");
    };
    const lines = [...table.rows].map((row) => [...row.cells].map(words).join("\t"));
    copy(lines.join("\n"), "table");
  }));
  table.parentElement.before(tools);
}
for (const place of document.querySelectorAll(".copying")) {
  const file = place.nextElementSibling;
  place.className = "tools";
  place.append(button("copy file", () => copy(file.textContent, "study file")));
}
// What is folded is printed too.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => { folded.forEach((part) => { part.open = false; }); folded = []; });
