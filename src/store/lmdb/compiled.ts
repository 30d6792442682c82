/**
 * URL of a program of this folder that runs in a thread or process of its own.
 * Those run compiled code, also where the sources themselves are run by a test
 * runner that reads TypeScript.
 */
export function compiledSibling(name: string): URL {
  const folder = import.meta.url.endsWith(".ts") ? "../../../dist/src/store/lmdb/" : "./";
  return new URL(`${folder}${name}.js`, import.meta.url);
}
