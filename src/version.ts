import { readFileSync } from "node:fs";

/** Of this package. */
export const version: string = readVersion();

function readVersion(): string {
  // Beside src/ when the sources are run, one level higher when the build is.
  for (const place of ["../package.json", "../../package.json"]) {
    try {
      const { version } = JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as {
        version: string;
      };
      return version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return "unknown";
}
