// Small line plots in SVG.

import { make, makeSvg } from "./dom.js";

const WIDTH = 420;
const HEIGHT = 190;
const LEFT = 46;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 22;
const MAX_POINTS = 800;

export function shortNumber(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6) return `${trimmed((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${trimmed((value / 1e3).toPrecision(3))}k`;
  if (size !== 0 && size < 1e-3) return value.toExponential(1);
  return trimmed(value.toPrecision(4));
}

const trimmed = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);

function ticksOf(low, high, count) {
  const step = niceStep((high - low) / count);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) found.push(Math.abs(tick) < step * 1e-6 ? 0 : tick);
  return found;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10);
}

/** Every n-th point, the last one always. */
function thinned(points) {
  const every = Math.ceil(points.length / MAX_POINTS);
  return every <= 1 ? points : points.filter((_, i) => i % every === 0 || i === points.length - 1);
}

export function smoothed(points, weight = 0.9) {
  let mean = 0;
  let total = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    total = weight * total + (1 - weight);
    return [x, mean / total];
  });
}

/**
 * Draws series of [x, y] points.
 * series: [{points, name, index, faint}]; options: {label, yRange, width, height}.
 */
export function drawPlot(series, options = {}) {
  const height = options.height ?? HEIGHT;
  const shown = series.map((each) => ({ ...each, points: thinned(each.points) })).filter((each) => each.points.length);
  const svg = makeSvg("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": options.label ?? "" });
  if (!shown.length) return svg;
  const xs = shown.flatMap((each) => each.points.map((point) => point[0]));
  const ys = shown.flatMap((each) => each.points.map((point) => point[1]));
  const [x0, x1] = widened(Math.min(...xs), Math.max(...xs));
  const [y0, y1] = options.yRange ?? widened(Math.min(...ys), Math.max(...ys));
  const toX = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const toY = (y) => height - BOTTOM - ((y - y0) / (y1 - y0)) * (height - TOP - BOTTOM);
  for (const tick of ticksOf(y0, y1, 4)) {
    svg.append(
      makeSvg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: toY(tick), y2: toY(tick) }),
      makeSvg("text", { class: "tick", x: LEFT - 5, y: toY(tick) + 4, "text-anchor": "end" }, shortNumber(tick)),
    );
  }
  for (const tick of ticksOf(x0, x1, 4)) {
    svg.append(makeSvg("text", { class: "tick", x: toX(tick), y: height - 6, "text-anchor": "middle" }, shortNumber(tick)));
  }
  for (const each of shown) {
    if (each.points.length < 2) continue;
    const path = each.points.map(([x, y], i) => `${i ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
    const colour = `s${each.index % 5}`;
    svg.append(makeSvg("path", { class: `line ${colour}${each.faint ? " faint" : ""}`, d: path }));
  }
  return svg;
}

function widened(low, high) {
  if (high > low) return [low, high];
  const margin = Math.abs(low) * 0.1 || 0.5;
  return [low - margin, high + margin];
}

/** A card with a plot, its name and its last value; of a single value there is nothing to draw. */
export function plotCard(name, points, isSmooth) {
  const [step, last] = points[points.length - 1];
  const series = isSmooth && points.length > 4
    ? [{ points, index: 0, faint: true }, { points: smoothed(points), index: 0 }]
    : [{ points, index: 0 }];
  const label = `${name} over ${points.length} logged steps, last ${shortNumber(last)}`;
  const caption = make("figcaption", {}, make("span", { class: "name" }, name), make("span", { class: "value" }, shortNumber(last)));
  if (points.length === 1) {
    caption.lastChild.append(make("small", {}, ` at step ${step.toLocaleString("en")}`));
    return make("figure", { class: "card" }, caption);
  }
  return make("figure", { class: "card" }, caption, drawPlot(series, { label }));
}
