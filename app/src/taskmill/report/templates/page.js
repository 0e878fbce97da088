(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("taskmill-theme"); } catch { /* Not kept for files in some browsers. */ }

  const theme = () => {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: of("--grid"), linecolor: of("--line"), zerolinecolor: of("--grid"), tickcolor: of("--line"), automargin: true };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
        font: { color: of("--soft"), family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 12 },
        hoverlabel: { bgcolor: of("--card"), bordercolor: of("--line"), font: { color: of("--ink") }, namelength: -1 },
        annotationdefaults: { font: { color: of("--soft") } },
      },
      data: {
        heatmap: [{ colorscale: [[0, of("--heat")], [0.55, "#f6b73c"], [1, "#e2452f"]] }],
        icicle: [{ marker: { line: { color: of("--card") } }, insidetextfont: { color: "#0e1116" }, pathbar: { textfont: { color: "#0e1116" } } }],
        bar: [{ insidetextfont: { color: of("--ink") } }],
      },
    };
  };

  const plots = [...document.querySelectorAll(".plot")];
  const figures = new Map();
  const draw = (plot, width) => {
    if (!figures.has(plot)) figures.set(plot, JSON.parse(document.getElementById(plot.dataset.figure).textContent));
    const { data, layout } = figures.get(plot);
    const narrow = (width || plot.clientWidth) < 560;
    const looks = { ...layout, template: theme(), autosize: !width, width, dragmode: narrow ? false : "zoom" };
    if (narrow) looks.margin = { ...layout.margin, l: Math.min(layout.margin.l, 40), r: 8 };
    return Plotly.react(plot, data, looks, { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] });
  };
  const drawAll = (width) => plots.map((plot) => draw(plot, width));

  const show = (name) => {
    root.dataset.theme = name;
    const button = document.getElementById("theme");
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show in ${name === "dark" ? "light" : "dark"} colours`);
  };
  const current = () => chosen || (dark.matches ? "dark" : "light");
  const switchTo = (name) => { show(name); drawAll(); };
  show(current());
  document.getElementById("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("taskmill-theme", chosen); } catch { /* The choice then lasts as long as the page. */ }
    switchTo(chosen);
  });
  dark.addEventListener("change", () => { if (!chosen) switchTo(current()); });

  // Paper is white, and as wide as it is.
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((one) => { one.open = true; }); show("light"); drawAll(660); });
  addEventListener("afterprint", () => switchTo(current()));

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const down = head.ariaSort === "descending" ? false : head.ariaSort === "ascending" ? true : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const order = (a, b) => numeric ? (parseFloat(value(a)) || 0) - (parseFloat(value(b)) || 0) : value(a).localeCompare(value(b));
        const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * order(a, b));
        table.tBodies[0].append(...rows);
      });
    });
  }
  for (const input of document.querySelectorAll("input[data-filters]")) {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => {
      const text = document.getElementById(button.dataset.copies);
      getSelection().selectAllChildren(text);
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl-C";
    });
  }

  // One after the other, so that the page can be read meanwhile.
  const next = (place) => {
    if (place === plots.length) { root.dataset.drawn = "all"; return; }
    draw(plots[place]);
    setTimeout(next, 0, place + 1);
  };
  next(0);
})();
