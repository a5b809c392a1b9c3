// Turns the loss surfaces of a report: drag, or focus one and use the arrow keys. What is drawn
// first was drawn by surface_picture.py; the projection here is the same.
'use strict';
const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const SCALE = 165, CENTER_X = 275, CENTER_Y = 240, HEIGHT = 1.1;

function project(point, yaw, pitch) {
  const [x, y, z] = point, h = (z - 0.5) * HEIGHT;
  const across = x * Math.cos(yaw) - y * Math.sin(yaw);
  const away = x * Math.sin(yaw) + y * Math.cos(yaw);
  const up = away * Math.sin(pitch) + h * Math.cos(pitch);
  return [CENTER_X + SCALE * across, CENTER_Y - SCALE * up,
    away * Math.cos(pitch) - h * Math.sin(pitch)];
}

function color(z) {
  const place = Math.min(Math.max(z, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2), part = place - low;
  const mixed = STOPS[low].map((c, i) => Math.round(c + (STOPS[low + 1][i] - c) * part));
  return `rgb(${mixed.join(',')})`;
}

function draw(svg, scene, yaw, pitch) {
  const at = (point) => project(point, yaw, pitch);
  const xy = (point) => { const [x, y] = at(point); return [x.toFixed(1), y.toFixed(1)]; };
  const corners = [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]];
  svg.querySelector('.floor').setAttribute('points', corners.map((c) => xy(c).join()).join(' '));
  const faces = scene.faces.map((face) => {
    const points = face.map((index) => at(scene.vertices[index]));
    const height = face.reduce((sum, i) => sum + scene.vertices[i][2], 0) / 4;
    const depth = points.reduce((sum, p) => sum + p[2], 0);
    return { depth, height, points: points.map((p) => `${p[0].toFixed(1)},${p[1].toFixed(1)}`) };
  }).sort((a, b) => b.depth - a.depth);
  svg.querySelectorAll('.face').forEach((node, i) => {
    node.setAttribute('points', faces[i].points.join(' '));
    node.setAttribute('fill', color(faces[i].height));
  });
  const way = svg.querySelector('.way');
  if (way) way.setAttribute('points', scene.path.map((p) => xy(p).join()).join(' '));
  svg.querySelectorAll('.mark').forEach((node, i) => {
    const [x, y] = xy(scene.path[i]);
    node.setAttribute('transform', `translate(${x} ${y})`);
  });
}

for (const svg of document.querySelectorAll('svg[data-scene]')) {
  const scene = JSON.parse(svg.dataset.scene);
  let { yaw, pitch } = scene, from = null;
  const turn = (sideways, upwards) => {
    yaw += sideways;
    pitch = Math.min(Math.max(pitch + upwards, 0.05), 1.5);
    draw(svg, scene, yaw, pitch);
  };
  svg.tabIndex = 0;
  svg.style.cursor = 'grab';
  svg.style.touchAction = 'pan-y'; // a finger that goes up and down still scrolls the page
  svg.addEventListener('pointerdown', (event) => {
    from = [event.clientX, event.clientY];
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener('pointermove', (event) => {
    if (!from) return;
    turn((event.clientX - from[0]) / 120, (event.clientY - from[1]) / 160);
    from = [event.clientX, event.clientY];
  });
  for (const end of ['pointerup', 'pointercancel']) {
    svg.addEventListener(end, () => { from = null; });
  }
  svg.addEventListener('keydown', (event) => {
    const steps = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (!(event.key in steps)) return;
    turn(...steps[event.key]);
    event.preventDefault();
  });
  for (const hint of svg.parentNode.querySelectorAll('.turn')) hint.hidden = false;
}
