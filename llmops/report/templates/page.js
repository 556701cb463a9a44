"use strict";
// Filters the config table and shows the answers a page at a time. Every text is set as text,
// never as markup, since questions and answers are data from outside.
(function () {
  const byId = (id) => document.getElementById(id);

  function onTyping(input, act) {
    let waiting = 0;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(act, 120);
    });
  }

  function reachable(texts) {  // what scrolls is reached by keyboard
    for (const text of texts) {
      if (text.scrollHeight > text.clientHeight) text.tabIndex = 0;
    }
  }

  function config() {
    const table = byId("config-table");
    if (!table) return;
    const filter = byId("config-filter");
    const only = byId("config-overrides");
    const rows = Array.from(table.tBodies[0].rows);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    function show() {
      const wanted = filter.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !texts[i].includes(wanted) || (only.checked && !row.classList.contains("override"));
        if (!row.hidden) shown += 1;
      });
      byId("config-status").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} keys`;
    }
    reachable(table.querySelectorAll("pre"));
    onTyping(filter, show);
    only.addEventListener("change", show);
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function said(title, text, className) {
    const block = element("div", className);
    block.append(element("h3", "", title), element("p", text ? "said" : "said none", text || "(empty)"));
    return block;
  }

  function answered(title, answer) {
    if (!answer) return said(title, "");
    const block = said(title, answer.text);
    for (const note of answer.notes) block.firstChild.append(" ", element("span", "mark warn", note));
    const figures = [];
    if (answer.tokens !== null) figures.push(`${answer.tokens} tokens`);
    if (answer.loss !== null) figures.push(`loss on the reference ${answer.loss.toFixed(2)}`);
    if (typeof answer.rouge === "number") figures.push(`ROUGE-L ${answer.rouge.toFixed(2)}`);
    if (typeof answer.judge === "number") figures.push(`judge ${answer.judge.toFixed(2)}`);
    block.append(element("small", "", figures.join(", ")));
    if (answer.reason) block.append(element("small", "", ` The judge: ${answer.reason}`));
    return block;
  }

  function answers() {
    const source = byId("answers-data");
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const names = Object.entries(data.contestants);
    const size = 6;
    let found = data.rows;
    let first = 0;

    function card(row) {
      const article = element("article", "answer");
      const asked = said("Question", row.question, "asked");
      if (row.source) asked.append(element("small", "", row.source));
      const columns = element("div", "columns");
      columns.append(said("Reference", row.reference, "reference"));
      for (const [name, title] of names) columns.append(answered(title, row.answers[name]));
      article.append(asked, columns);
      return article;
    }

    function show() {
      const last = Math.min(first + size, found.length);
      const list = byId("answers-list");
      list.replaceChildren(...found.slice(first, last).map(card));
      reachable(list.querySelectorAll(".said"));
      byId("answers-status").textContent = found.length
        ? `${first + 1} to ${last} of ${found.length}` : "nothing found";
      byId("answers-back").disabled = first === 0;
      byId("answers-next").disabled = last >= found.length;
    }

    function turn(pages) {
      first += pages * size;
      show();
      byId("answers").scrollIntoView();
    }

    function matches(row, wanted) {
      const texts = [row.question, row.reference, row.key];
      for (const answer of Object.values(row.answers)) texts.push(answer.text, answer.notes.join(" "));
      return texts.some((text) => text.toLowerCase().includes(wanted));
    }

    // What a row gained over the baseline: by the judge if it has judged, else by ROUGE-L.
    function gain(row, name) {
      const mine = row.answers[name], theirs = row.answers[data.baseline];
      if (!mine || !theirs) return 0;
      const score = (answer) => (typeof answer.judge === "number" ? answer.judge : answer.rouge || 0);
      return score(mine) - score(theirs);
    }

    function noted(row, wanted) {
      const notes = Object.values(row.answers).flatMap((answer) => answer.notes);
      return wanted === "*" ? notes.length > 0 : notes.includes(wanted);
    }

    function choose() {
      const wanted = byId("answers-filter").value.trim().toLowerCase();
      const only = byId("answers-only").value;
      const order = byId("answers-order").value;
      found = data.rows.filter((row) => (!only || noted(row, only)) && (!wanted || matches(row, wanted)));
      if (order !== "key") {
        const sign = order[0] === "+" ? -1 : 1, name = order.slice(1);
        const gains = new Map(found.map((row) => [row, gain(row, name)]));
        found.sort((a, b) => sign * (gains.get(a) - gains.get(b)));
      }
      first = 0;
      show();
    }

    onTyping(byId("answers-filter"), choose);
    byId("answers-only").addEventListener("change", choose);
    byId("answers-order").addEventListener("change", choose);
    byId("answers-back").addEventListener("click", () => turn(-1));
    byId("answers-next").addEventListener("click", () => turn(1));
    show();
  }

  config();
  answers();
})();
