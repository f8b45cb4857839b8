// Sorting of tables and the filter of answers. Without it the page reads the same: this only hides and reorders what is there.
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    const given = cell.dataset.value ?? cell.textContent.trim().replace("\u2212", "-").replaceAll(",", "");
    const number = parseFloat(given);
    return number === number ? number : given.toLowerCase();
  };
  const before = (a, b) => {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  };
  // A link to a folded part opens it.
  const unfold = () => {
    const part = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const folded = part && part.querySelector(":scope > details");
    if (folded) folded.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.dataset.sort = "";
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const all = [...table.tBodies[0].rows];
        const rows = all.filter((row) => !row.classList.contains("total"));
        rows.sort((x, y) => (down ? -1 : 1) * before(value(x, column), value(y, column)));
        table.tBodies[0].append(...rows, ...all.filter((row) => row.classList.contains("total")));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
    });
  });
  document.querySelectorAll(".filtered").forEach((part) => {
    const selects = [...part.querySelectorAll("select")];
    const items = [...part.querySelectorAll(".answer")];
    const count = part.querySelector(".count");
    const most = Number(part.dataset.most);
    const show = () => {
      const fits = (item) => selects.every((s) => !s.value || item.dataset[s.name] === s.value);
      const found = items.filter(fits);
      items.forEach((item) => { item.hidden = true; });
      found.slice(0, most).forEach((item) => { item.hidden = false; });
      count.textContent = `${Math.min(most, found.length)} of ${found.length} shown`;
    };
    selects.forEach((s) => s.addEventListener("change", show));
    show();
  });
})();
