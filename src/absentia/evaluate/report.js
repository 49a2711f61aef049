"use strict";
// Two comforts of the page, both of which it can do without: tables sort by a click on a heading, the command copies by a click.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    if (!heading.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => parseFloat(row.cells[column].dataset.v);
      const last = (value) => (Number.isNaN(value) ? Infinity : up ? value : -value);
      body.append(...[...body.rows].sort((a, b) => last(key(a)) - last(key(b)) || 0));
    });
  });
}
const copy = document.getElementById("copy");
const command = document.getElementById("command");
if (copy && command && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
}
