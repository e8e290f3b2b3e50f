// Two generations compared: what the mesh's API found, as tables and bars. All text goes in as text.
"use strict";

(() => {
  const form = document.querySelector("form[data-compare]");
  if (!form) return;
  const { left, right } = form.dataset;
  const wait = form.querySelector("[data-part=wait]");
  const found = document.getElementById("found");
  const result = found.querySelector("[data-part=result]");
  const words = found.querySelector("[data-part=words]");
  let kind = "saved";

  const make = (name, attributes = {}, ...inside) => {
    const one = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    one.append(...inside);
    return one;
  };
  const number = (value, unit = "") => (value === null || value === undefined ? "–" : `${Number(value.toPrecision(4))}${unit}`);
  const text = (value) => (value === undefined || value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));
  const table = (label, heads, rows) => make("div", { class: "card scroll", tabindex: "0", role: "group", "aria-label": label },
    make("table", {}, make("caption", {}, label),
      make("thead", {}, make("tr", {}, ...heads.map((head, i) => make("th", { scope: "col", ...(i ? { class: "number" } : {}) }, head)))),
      make("tbody", {}, ...rows.map(([head, ...cells]) => make("tr", {}, make("th", { scope: "row" }, head),
        ...cells.map((cell) => make("td", { class: "number" }, cell)))))));
  const bar = (value, most) => {
    const inner = make("i");
    inner.style.width = `${most && value ? Math.max(1, (100 * value) / most) : 0}%`;
    return make("span", { class: "meter", "aria-hidden": "true" }, inner);
  };
  const barred = (value, most, unit) => make("span", {}, bar(value, most), ` ${number(value, unit)}`);
  const quantile = (values, share) => {
    const ordered = [...values].sort((a, b) => a - b);
    return ordered.length ? ordered[Math.ceil(share * ordered.length) - 1] : null;
  };
  const quantiles = (values) => ({ p50: quantile(values, 0.5), p95: quantile(values, 0.95), p99: quantile(values, 0.99), max: quantile(values, 1) });

  const latencies = (one, other, unit) => {
    const most = Math.max(one.max || 0, other.max || 0);
    return table("Latency", ["", left, right], Object.keys(one).map((name) => [name, barred(one[name], most, unit), barred(other[name], most, unit)]));
  };
  // How far numbers are apart, by powers of ten; what is no number differs or does not.
  const spread = (questions) => {
    const steps = [1e-6, 1e-4, 1e-2, 1];
    const names = ["equal", ...steps.map((step) => `up to ${step}`), "more than 1", "not a number"];
    const counts = names.map(() => 0);
    for (const one of questions) {
      if (one.equal) { counts[0] += 1; continue; }
      const apart = one.differences.map((d) => (typeof d.left === "number" && typeof d.right === "number" && d.path !== "status" ? Math.abs(d.left - d.right) : NaN));
      const largest = apart.some(Number.isNaN) ? NaN : Math.max(...apart);
      const place = steps.findIndex((step) => largest <= step);
      counts[Number.isNaN(largest) ? names.length - 1 : place < 0 ? names.length - 2 : place + 1] += 1;
    }
    const most = Math.max(...counts);
    return table("How far answers are apart", ["Largest difference", "Questions"], names.map((name, i) => [name, barred(counts[i], most)]));
  };
  const differing = (title, differences) => make("details", { class: "card fold" }, make("summary", {}, title),
    table(title, ["Where", left, right], differences.map((one) => [one.path || "the answer", text(one.left), text(one.right)])));

  const showQuestions = (value) => {
    words.textContent = `${value.asked} asked of both, ${value.equal} answered alike, ${value.different} not.${value.not_asked ? ` ${value.not_asked} could not be asked again.` : ""}`;
    const times = (side) => value.questions.map((one) => one.milliseconds[side]);
    const other = value.questions.filter((one) => !one.equal);
    result.replaceChildren(spread(value.questions), latencies(quantiles(times(0)), quantiles(times(1)), " ms"),
      ...other.slice(0, 50).map((one) => differing(`${one.endpoint}: ${one.name || JSON.stringify(one.body)}`, one.differences)));
  };
  const showRecorded = (value) => {
    words.textContent = `${value.asked} requests were answered by both, ${value.equal} alike, ${value.different} not; ${value.predictions} predicted otherwise. Refused: ${value.refused[0]} by ${left}, ${value.refused[1]} by ${right}.`;
    const most = Math.max(value.asked, 1);
    result.replaceChildren(
      table("Answers", ["", "Requests"], [["equal", barred(value.equal, most)], ["different", barred(value.different, most)]]),
      table("How far numbers are apart", ["", "Largest difference"], Object.entries(value.apart).map(([name, one]) => [name, number(one)])),
      latencies(value.microseconds.left, value.microseconds.right, " µs"),
      ...value.worst.map((pair) => differing(`${pair.endpoint}: request ${pair.request_id}`, pair.differences)));
  };

  form.addEventListener("submit", (event) => {
    kind = (event.submitter || form.querySelector("button[type=submit]")).dataset.kind;
    const tolerance = form.elements.tolerance.value || "0";
    form.querySelector("[data-kind=recorded]").dataset.path = `/recorded?${new URLSearchParams({ left, right, tolerance })}`;
    wait.textContent = "Comparing …";
  }, true);
  form.makeBody = () => {
    if (kind === "recorded") return undefined;
    const asked = { left, right, tolerance: Number(form.elements.tolerance.value) };
    return kind === "replay" ? { ...asked, most: Number(form.elements.most.value) } : asked;
  };
  form.addEventListener("failed", () => { wait.textContent = ""; });
  form.addEventListener("told", (event) => {
    wait.textContent = "";
    (kind === "recorded" ? showRecorded : showQuestions)(event.detail);
    found.hidden = false;
    found.focus();
  });
})();
