// The table of the overview. dash_app/pages/overview_rows.py says what the data hold; here they are sorted, filtered
// and drawn. The browser remembers the order, and for each account its favourites.
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.overview = (() => {
  const ORDER = "mur-overview-order";
  let data = null, horizon = "8", text = "";

  const notStored = new Map(); // what the browser's storage did not take, for as long as the page is open
  const remember = (name, value) => {
    const written = JSON.stringify(value);
    notStored.set(name, written);
    try {
      localStorage.setItem(name, written);
      if (localStorage.getItem(name) === written) notStored.delete(name);
    } catch {} // blocked, missing or full
  };
  const recall = (name) => {
    try {
      return JSON.parse(notStored.get(name) ?? localStorage.getItem(name));
    } catch {
      return null; // blocked, missing, or no JSON
    }
  };
  const recallFavourites = () => {
    const kept = recall(owner());
    return Array.isArray(kept) ? kept.filter((pair) => typeof pair === "string") : [];
  };

  const SVG = "http://www.w3.org/2000/svg";
  const fill = (made, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // The bar of a band, on an axis that reaches as far to the left as to the right.
  const bar = (ends, reach) => {
    const [q10, q25, q50, q75, q90] = ends.map((end) => 100 + (100 * Math.max(-reach, Math.min(reach, end))) / reach);
    const box = (kind, left, right) => svg("rect", { class: kind, x: left, y: 3, width: right - left, height: 14 });
    const line = (kind, x) => svg("line", { class: kind, x1: x, x2: x, y1: 0, y2: 20 });
    const made = svg("svg", { viewBox: "0 0 200 20", preserveAspectRatio: "none", class: "bar", "aria-hidden": true });
    made.append(box("wide", q10, q90), box("narrow", q25, q75), line("zero", 100), line("median", q50));
    if (ends[0] < -reach) made.append(svg("path", { class: "beyond", d: "M0 10 L6 2 L6 18 Z" }));
    if (ends[4] > reach) made.append(svg("path", { class: "beyond", d: "M200 10 L194 2 L194 18 Z" }));
    return made;
  };

  // The last closes and the coming bands in a square of 100, with the last close in the middle.
  const picture = (points) => {
    const [past, wide, narrow] = points.split("|");
    return svg(
      "svg",
      { viewBox: "0 0 100 100", preserveAspectRatio: "none", class: "picture", "aria-hidden": true },
      svg("polygon", { class: "wide", points: wide }),
      svg("polygon", { class: "narrow", points: narrow }),
      svg("line", { class: "zero", x1: 0, x2: 100, y1: 50, y2: 50 }),
      svg("polyline", { class: "past", points: past }),
    );
  };

  const owner = () => `mur-favourites-${document.getElementById("overview-table").dataset.owner}`;
  const star = (row, favourites) => {
    const isOne = favourites.includes(row.pair);
    const turn = () => {
      remember(owner(), isOne ? favourites.filter((pair) => pair !== row.pair) : [...favourites, row.pair]);
      draw();
    };
    const named = { "aria-pressed": isOne, "aria-label": `favourite ${row.label}`, "data-key": `star ${row.pair}` };
    return html("button", { type: "button", class: "star", onclick: turn, ...named }, isOne ? "★" : "☆");
  };

  const note = (words) => html("span", { class: "note" }, words);
  const absent = (words) => html("span", { class: "absent" }, words);

  // value: what to sort by, null where there is none, which comes last in both orders. down: the first order is descending.
  const columns = (favourites) => {
    const shown = data.horizons.find(({ key }) => key === horizon);
    return [
      {
        key: "pair",
        title: "Pair",
        value: (row) => row.label,
        cell: (row) => [star(row, favourites), html("a", { href: row.href, "data-key": row.pair }, row.label)],
      },
      { key: "last", title: "Last close", down: true, value: (row) => row.last_close, cell: (row) => [row.last_close_text] },
      { key: "picture", title: `Past and next ${data.span}`, cell: (row) => [picture(row.picture)] },
      {
        key: "band",
        title: `80 % range in ${shown.label}`,
        down: true,
        axis: [`−${shown.reach_text}`, "0", `+${shown.reach_text}`],
        value: (row) => (row.bands?.[horizon] ? row.bands[horizon].ends[4] - row.bands[horizon].ends[0] : null),
        cell: ({ bands: { [horizon]: band }, notes }) => [
          ...(band ? [bar(band.ends, shown.reach), note(band.text)] : [absent("This model forecasts the next close alone.")]),
          ...notes.map(note),
        ],
      },
      {
        key: "move",
        title: `Expected move ${shown.label}`,
        down: true,
        value: (row) => row.moves?.[horizon]?.[0],
        cell: (row) => (row.moves[horizon] ? [row.moves[horizon][1]] : [absent("n/a")]),
      },
      ...data.horizons.map(({ key, label }) => ({
        key: `volatility ${key}`,
        title: `Volatility ${label}`,
        down: true,
        value: (row) => row.volatility?.[key]?.[0],
        cell: (row) => (row.volatility[key] ? [row.volatility[key][1]] : [absent("n/a")]),
      })),
      {
        key: "skill",
        title: "Skill",
        down: true,
        value: (row) => row.skill,
        cell: (row) => [
          row.skill === null ? absent(row.skill_text) : row.skill_text,
          ...(row.skills_text ? [note(row.skills_text)] : []),
        ],
      },
      {
        key: "coverage",
        title: "Coverage",
        down: true,
        value: (row) => row.coverage,
        cell: (row) => [row.coverage === null ? absent(row.coverage_text) : row.coverage_text],
      },
      { key: "age", title: "Model age", value: (row) => row.age_hours, cell: (row) => [row.age] },
    ];
  };

  const compare = (one, other, down) => {
    if (one == null || other == null) return (one == null) - (other == null);
    const difference = typeof one === "string" ? one.localeCompare(other) : one - other;
    return down ? -difference : difference;
  };

  const heading = (column, order) => {
    const isOrder = column.key === order.key;
    const attributes = { role: "columnheader", scope: "col", class: column.key.split(" ")[0] };
    if (!column.value) return html("th", attributes, html("span", {}, column.title));
    attributes["aria-sort"] = isOrder ? (order.down ? "descending" : "ascending") : "none";
    const sort = () => {
      remember(ORDER, { key: column.key, down: isOrder ? !order.down : !!column.down });
      draw();
    };
    const arrow = isOrder ? html("span", { "aria-hidden": true }, order.down ? " ↓" : " ↑") : "";
    const button = html("button", { type: "button", onclick: sort, "data-key": `sort ${column.key}` }, column.title, arrow);
    return html("th", attributes, button, ...(column.axis ? [axis(column.axis)] : []));
  };
  const axis = (marks) => html("span", { class: "axis" }, ...marks.map((mark) => html("span", {}, mark)));

  // For cards, which have no headings.
  const orderField = (shown, order) => {
    const choose = ({ target: { value } }) => {
      remember(ORDER, { key: value, down: !!shown.find(({ key }) => key === value).down });
      draw();
    };
    const turn = () => {
      remember(ORDER, { ...order, down: !order.down });
      draw();
    };
    const options = shown.filter(({ value }) => value).map(({ key, title }) => html("option", { value: key }, title));
    const select = html("select", { onchange: choose, "data-key": "order" }, ...options);
    select.value = order.key;
    const named = { "aria-label": "reverse the order", "data-key": "reverse" };
    const reverse = html("button", { type: "button", onclick: turn, ...named }, order.down ? "↓" : "↑");
    const reach = shown.find(({ axis }) => axis).axis;
    return html(
      "div",
      { class: "order" },
      html("label", {}, "Sort by ", select),
      reverse,
      note(`The bars reach from ${reach[0]} to ${reach[2]}.`),
    );
  };

  const line = (row, shown) => {
    const cells = shown.map((column, index) => {
      const kind = column.key.split(" ")[0];
      if (index === 0) return html("th", { role: "rowheader", scope: "row", class: kind }, ...column.cell(row));
      return row.message ? "" : html("td", { role: "cell", class: kind, "data-label": column.title }, ...column.cell(row));
    });
    if (row.message) cells.push(html("td", { role: "cell", class: "message", colspan: shown.length - 1 }, row.message));
    return html("tr", { role: "row", "data-pair": row.pair }, ...cells);
  };

  const draw = () => {
    const root = document.getElementById("overview-table");
    if (!data?.rows.length || !root) {
      root?.replaceChildren();
      return "";
    }
    const favourites = recallFavourites();
    const shown = columns(favourites);
    const kept = recall(ORDER);
    const isKnown = shown.some(({ key, value }) => value && key === kept?.key);
    const order = isKnown ? { key: kept.key, down: kept.down === true } : { key: "pair", down: false };
    const { value } = shown.find(({ key }) => key === order.key);
    const words = text.toLowerCase().split(/[\s/]+/);
    const isWanted = (row) => {
      const searched = [row.label, row.message, ...(row.notes ?? [])].join(" ").toLowerCase();
      return words.every((word) => searched.includes(word));
    };
    const isLater = (row) => !favourites.includes(row.pair);
    const rows = data.rows
      .filter(isWanted)
      .sort(
        (one, other) =>
          isLater(one) - isLater(other) ||
          compare(value(one), value(other), order.down) ||
          one.label.localeCompare(other.label),
      );
    const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    root.replaceChildren(
      orderField(shown, order),
      html(
        "table",
        { role: "table", "aria-label": "pairs" },
        html("thead", { role: "rowgroup" }, html("tr", { role: "row" }, ...shown.map((each) => heading(each, order)))),
        html("tbody", { role: "rowgroup" }, ...rows.map((row) => line(row, shown))),
      ),
    );
    if (focused) root.querySelector(`[data-key="${focused}"]`)?.focus();
    return text ? `${rows.length} of ${data.rows.length} pairs match “${text}”.` : "";
  };

  return {
    show: (newData, newHorizon, newText) => {
      const isOffered = newData?.horizons.some(({ key }) => key === newHorizon);
      const wanted = isOffered ? newHorizon : newData?.horizons[0].key; // what the browser remembers may be of another version
      const isDrawn = document.querySelector("#overview-table tbody") && wanted === horizon;
      const isSame = isDrawn && (newText ?? "").trim() === text && JSON.stringify(newData) === JSON.stringify(data);
      if (isSame) return window.dash_clientside.no_update; // a redrawn table would lose the selected text
      [data, horizon, text] = [newData, wanted, (newText ?? "").trim()];
      return draw();
    },
  };
})();
