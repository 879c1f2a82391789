"use strict";
// Asks for the state twice a second and for the curves every five; draws; sends nothing.
const get = (id) => document.getElementById(id);
const number = (x, digits = 2) => (x === null || x === undefined ? "?" : Number(x).toFixed(digits));
const minutes = (s) => (s === null || s === undefined ? "?" : s < 90 ? `${number(s, 0)} s` : `${number(s / 60, 1)} min`);

function row(cells, bad) {
  const tr = document.createElement("tr");
  for (const cell of cells) tr.appendChild(document.createElement("td")).textContent = cell;
  if (bad) tr.className = "bad";
  return tr;
}

function facts(s) {
  const list = [["cause", s.causes.join(", ") || (s.last_cause ? `none now; the last was ${s.last_cause}` : "none"), s.causes.length],
    ["power", `${s.power.word}  ${s.power.detail}`, ["bad", "alarm"].includes(s.power.level)],
    ["lease", `${s.lease || "nobody"}${s.session ? ", session open" : ""}`]];
  if (s.episode) {
    const e = s.episode;
    list.push(["episode", `${e.episode}, step ${e.step}; ${e.transitions} transitions`],
      s.success ? ["return", `${number(e.total_return)}; ${s.success}`] : ["return", `${number(e.total_return)}, ${number(e.speed)} m/s`],
      ["policy", e.policy_version < 0 ? "no weights yet" : `v${e.policy_version}, ${minutes(e.policy_age_s)} old`]);
  }
  if (s.learner) {
    const l = s.learner;
    list.push(["learner", `${l.updates} updates, ${number(l.updates_per_s, 0)}/s, ${l.engine}`],
      ["loss", `critic ${number(l.critic_loss, 4)}, actor ${number(l.actor_loss, 4)}, temperature ${number(l.temperature, 4)}`]);
  }
  if (s.labels) list.push(["labels", `${s.labels[0]} bound, ${s.labels[1]} waiting, ${s.labels[2]} refused`, s.labels[2] > 0]);
  if (s.account && s.account.run_s + s.account.reset_s + s.account.led_s > 0) {
    const a = s.account;
    list.push(["by itself", `${number(100 * a.autonomy, 0)} %, ${minutes(a.run_s + a.reset_s)} in motion`],
      ["person", `${a.touches} touches, ${a.interventions} interventions` + (a.led_s ? `, led it for ${minutes(a.led_s)}` : "")],
      ["failures", a.failures ? `${a.failures}, ${minutes(a.mtbf_s)} between` : "none"]);
  }
  const nodes = Object.entries(s.nodes);
  list.push(["alive", nodes.map(([n, w]) => `${n} ${w}`).join("  ") || "nobody", nodes.some(([, w]) => w !== "ok")],
    ["disk", `${number(s.disk_free / 2 ** 30, 1)} GiB free`, s.disk_free < 2 ** 30]);
  const dl = get("facts");
  dl.replaceChildren();
  for (const [name, text, bad] of list) {
    dl.appendChild(document.createElement("dt")).textContent = name;
    const dd = dl.appendChild(document.createElement("dd"));
    dd.textContent = text;
    if (bad) dd.className = "bad";
  }
}

function show(s) {
  get("state").textContent = s.state;
  get("meaning").textContent = s.meaning;
  get("run").textContent = s.run;
  get("bar").className = s.live ? s.state : s.state === "NO GUARD" ? "SILENT" : "";
  get("note").textContent = s.note;
  document.title = `${s.state} ${s.run}`;
  facts(s);
  get("tables").hidden = !s.live && s.state !== "NO GUARD";
  get("streams").tBodies[0].replaceChildren(...s.streams.map((r) =>
    row([r.topic, number(r.hz, 0), r.of, number(r.age_ms, 0), r.word], ["NONE", "LATE", "SLOW"].includes(r.word))));
  const j = s.servos;
  get("servos").tBodies[0].replaceChildren(...(j ? j.position.map((p, i) =>
    row([i + 1, number(p, 3), number(j.velocity[i]), number(j.torque[i]), number(j.temp_c[i], 0) + (j.board_c.length ? `, board ${number(j.board_c[i], 0)}` : ""),
      number(j.voltage[i], 1), j.fault[i], j.missed[i]], j.fault[i] || j.missed[i])) : []));
  get("events").replaceChildren(...s.events.slice(0, 12).map((e) => {
    const li = document.createElement("li");
    li.textContent = `${e.ago} ago  ${e.what}`;
    return li;
  }));
  const box = get("cameras");
  for (const name of s.cameras) {
    let img = document.getElementById(`camera-${name}`);
    if (!img) {
      img = box.appendChild(document.createElement("img"));
      img.id = `camera-${name}`;
      img.alt = name;
    }
    img.src = `/camera.jpg?name=${name}&${Date.now()}`;
  }
}

function plot(id, curves) {
  const canvas = get(id), scale = window.devicePixelRatio || 1;
  const w = (canvas.width = canvas.clientWidth * scale), h = (canvas.height = canvas.clientHeight * scale);
  const c = canvas.getContext("2d"), pad = 44 * scale;
  c.font = `${11 * scale}px sans-serif`;
  const points = curves.flatMap(([p]) => p).filter(([x, y]) => x !== null && y !== null && x !== undefined && y !== undefined);
  canvas.dataset.points = points.length;
  if (!points.length) return;
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const least = (a) => a.reduce((m, v) => Math.min(m, v)), most = (a) => a.reduce((m, v) => Math.max(m, v));
  const [x0, x1, y0, y1] = [least(xs), most(xs), least(ys), most(ys)];
  const px = (x) => pad + ((x - x0) / (x1 - x0 || 1)) * (w - pad - 6), py = (y) => h - 16 * scale - ((y - y0) / (y1 - y0 || 1)) * (h - 26 * scale);
  c.fillStyle = "#6b737c";
  c.fillText(y1.toPrecision(3), 0, py(y1) + 4);
  if (y1 > y0) c.fillText(y0.toPrecision(3), 0, py(y0) + 4);
  c.fillText(String(Math.round(x0)), pad, h - 2);
  c.fillText(String(Math.round(x1)), w - 50 * scale, h - 2);
  for (const [p, colour] of curves) {
    c.strokeStyle = colour;
    c.lineWidth = 1.5 * scale;
    c.beginPath();
    for (const [x, y] of p) if (x !== null && y !== null) c.lineTo(px(x), py(y));
    c.stroke();
  }
}

function curves(h) {
  const of = (rows, x, y) => rows.map((r) => [r[x], r[y]]);
  plot("return", [[of(h.episodes, "step_total", "return"), "#2166ac"]]);
  const what = h.episodes.length && "success" in h.episodes[0] ? "success" : "speed";
  get("speed-of").textContent = what === "success" ? "share of the last 20 episodes that succeeded" : "speed of each episode, m/s";
  plot("speed", [[of(h.episodes, "step_total", what), "#2166ac"]]);
  for (const name of ["critic_loss", "actor_loss", "entropy", "temperature"])
    plot(name, [[of(h.learner, "updates", name), "#e08214"]]);
}

function poll(path, use, every) {
  const again = () => setTimeout(() => poll(path, use, every), every);
  fetch(path).then((r) => r.json()).then(use).catch((error) => {
    get("bar").className = "SILENT";
    get("state").textContent = "NO PAGE";
    get("meaning").textContent = `robotrl view does not answer: ${error}`;
  }).finally(again);
}

poll("/state.json", show, 500);
poll("/history.json", curves, 5000);
