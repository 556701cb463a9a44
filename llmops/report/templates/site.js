"use strict";
// Hides the rows of the table that do not hold what was typed.
(function () {
  const input = document.getElementById("filter");
  if (!input) return;
  const table = document.getElementById(input.getAttribute("aria-controls"));
  let rows = null;
  let texts = null;
  let waiting = 0;
  function show() {
    if (rows === null) {  // read when first asked, so that the page opens at once
      rows = Array.from(table.tBodies[0].rows);
      texts = rows.map((row) => row.textContent.toLowerCase());
    }
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !texts[i].includes(wanted);
      if (!row.hidden) shown += 1;
    });
    document.getElementById("filter-status").textContent = wanted ? `${shown} of ${rows.length}` : "";
  }
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 120);
  });
})();
