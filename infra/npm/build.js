// npm run build: puts Plotly's bundle for prices into dist/, with a compressed copy, which takes too long for a request.
const { copyFileSync, mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { brotliCompressSync } = require("node:zlib");

const script = "dist/plotly-finance.min.js";
mkdirSync("dist", { recursive: true });
copyFileSync("node_modules/plotly.js-finance-dist-min/plotly-finance.min.js", script);
writeFileSync(`${script}.br`, brotliCompressSync(readFileSync(script)));
