// Text on the page whose contrast against what is behind it is less than 4.5, as WCAG counts it (level AA).
const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
const rgba = colour => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = ([r, g, b, a], below) => [r, g, b].map((value, n) => value * a + below[n] * (1 - a));
const behind = element => {
  if (!element) return [255, 255, 255];
  const own = rgba(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
};
const light = colour => colour.map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  .reduce((sum, value, n) => sum + value * [0.2126, 0.7152, 0.0722][n], 0);
const grey = colour => Array(3).fill(colour.reduce((sum, value, n) => sum + value * [0.2126, 0.7152, 0.0722][n], 0));
const bad = new Set();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest('.unseen, script, .skip')) continue;
  const dull = getComputedStyle(element.closest('main') ?? element).filter.includes('grayscale');
  const back = behind(element), front = over(rgba(getComputedStyle(element).color), back);
  const [one, other] = (dull ? [grey(front), grey(back)] : [front, back]).map(light).sort((a, b) => b - a);
  const ratio = (one + 0.05) / (other + 0.05);
  if (ratio < 4.5) bad.add(`${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 120)}`);
}
return [...bad].slice(0, 10);
