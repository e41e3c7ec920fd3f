// SPDX-License-Identifier: MIT
// build.mjs NODE_MODULES OUTPUT: bundles script and style into the template, and writes the page as C++ source.
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [modules, output] = process.argv.slice(2).map((path) => resolve(path));
const here = dirname(fileURLToPath(import.meta.url));
const esbuild = createRequire(join(modules, 'package.json'))('esbuild');

async function bundled(entry) {
  const result = await esbuild.build({
    entryPoints: [join(here, entry)],
    bundle: true,
    minify: true,
    write: false,
    target: 'es2020',
    legalComments: 'inline', // the libraries' licences stay with their code
    nodePaths: [modules],
    logLevel: 'warning',
  });
  return result.outputFiles[0].text.trim();
}

// A function, so that `$` in the code means nothing.
const page = (await readFile(join(here, 'page.html'), 'utf8'))
  .replace('/* style */', await bundled('style.css').then((css) => () => css))
  .replace('/* script */', await bundled('main.js').then((js) => () => js.replaceAll('</script', '<\\/script')));

const pieces = page.match(/[^]{1,8000}/g).map((piece) => `R"page(${piece})page"`);
await writeFile(
  output,
  `#include "page.hh"\n\nnamespace lbbench {\n\nstd::optional<std::string_view> page_template() {\n  return std::string_view(\n${pieces.join('\n')});\n}\nstd::string_view page_missing() { return ""; }\n\n}  // namespace lbbench\n`,
);
