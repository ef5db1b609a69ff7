"use strict";
// The page can be read without this script. It searches, sorts, filters and saves the table.
{
  const byId = (id) => document.getElementById(id);
  const table = byId("charges");
  const groups = [...table.tBodies];
  const rows = groups.flatMap((group) =>
    [...group.rows].filter((row) => row.id).map((row) => ({ row, group, site: group.dataset.site })),
  );
  const lines = new Map(rows.map(({ row }, index) => [row, index + 1]));
  const sorted = document.createElement("tbody");
  const [search, known, site, order, down] = ["search", "known", "site", "order", "down"].map(byId);

  const textOf = (entry) =>
    (entry.text ??= [...entry.row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
  const labelOf = (entry) => (entry.label ??= entry.row.querySelector(".tag").textContent);

  const addOptions = (select, values) =>
    values.forEach((value) => select.append(new Option(value, value)));

  const matches = (entry) =>
    (!known.value || labelOf(entry) === known.value) &&
    (!site.value || entry.site === site.value) &&
    textOf(entry).includes(search.value.trim().toLowerCase());

  const filter = () => {
    let shown = 0;
    groups.forEach((group) => (group.hidden = true));
    for (const entry of rows) {
      entry.row.hidden = !matches(entry);
      if (!entry.row.hidden) {
        shown += 1;
        entry.row.parentNode.hidden = false;
      }
    }
    const count = (number) => number.toLocaleString("en");
    byId("shown").textContent = `${count(shown)} of ${count(rows.length)} shown`;
  };

  const compare = (a, b) => {
    // What is empty comes last, whatever the direction.
    if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
    const direction = down.checked ? -1 : 1;
    return direction * (isNaN(a) || isNaN(b) ? (a < b ? -1 : a > b ? 1 : 0) : a - b);
  };

  const sort = () => {
    const column = Number(order.value) - 1;
    table.querySelectorAll("th[aria-sort]").forEach((cell) => cell.removeAttribute("aria-sort"));
    if (column < 0) {
      for (const { row, group } of rows) group.append(row);
      sorted.remove();
    } else {
      const keyed = rows.map(({ row }) => [row.cells[column].textContent.trim(), row]);
      keyed.sort(([a], [b]) => compare(a, b));
      const fragment = document.createDocumentFragment();
      for (const [, row] of keyed) fragment.append(row);
      sorted.append(fragment);
      table.append(sorted);
      const direction = down.checked ? "descending" : "ascending";
      table.tHead.rows[0].cells[column].setAttribute("aria-sort", direction);
    }
    filter();
  };

  const save = () => {
    const csv = JSON.parse(byId("csv").textContent);
    const shown = [...table.querySelectorAll("tr[id]:not([hidden])")];
    // The mark tells spreadsheets that it is UTF-8.
    const parts = ["\ufeff", csv[0], ...shown.map((row) => csv[lines.get(row)])];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type: "text/csv;charset=utf-8" }));
    link.download = (location.pathname.split("/").pop() || "report").replace(/\.html$/, "") + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  const openTarget = () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    const isGroup = groups.includes(target);
    if (!target || !(target.closest("[hidden]") || (isGroup && order.value))) return;
    byId("tools").reset();
    sort();
    target.scrollIntoView();
  };

  addOptions(known, [...new Set([...document.querySelectorAll(".tiles .tag")].map((tag) => tag.textContent))]);
  addOptions(site, [...new Set(groups.map((group) => group.dataset.site).filter(Boolean))].sort());
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    order.append(new Option(cell.textContent, index + 1));
    const button = document.createElement("button");
    button.textContent = "\u21c5";
    button.setAttribute("aria-label", `sort by ${cell.textContent}`);
    button.addEventListener("click", () => {
      down.checked = Number(order.value) === index + 1 && !down.checked;
      order.value = index + 1;
      sort();
    });
    cell.append(" ", button);
  });
  for (const input of [search, known, site]) input.addEventListener("input", filter);
  for (const input of [order, down]) input.addEventListener("input", sort);
  byId("save").addEventListener("click", save);
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", openTarget);
  site.closest("label").hidden = site.options.length < 3;
  byId("shown").textContent = `${rows.length.toLocaleString("en")} charges`;
  byId("tools").hidden = false;
}
