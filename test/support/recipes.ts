/** The pages of docs/clients. */
import { readFileSync } from "node:fs";

/** The code of a page in one language, block by block. */
export function recipesOf(page: string, language: string): string[] {
  const text = readFileSync(new URL(`../../docs/clients/${page}.md`, import.meta.url), "utf8");
  return [...text.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"))].map(([, code = ""]) => code);
}

/** With the adapter where it is here, and not where the recipes expect it. */
export function placed(code: string, adapter: string): string {
  return code.replaceAll("http://127.0.0.1:7411", adapter);
}
