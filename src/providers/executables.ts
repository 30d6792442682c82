/** Finding programs. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";

/** The first executable of this name on a PATH; folders that are not absolute are passed over. */
export function findExecutable(name: string, pathEnv: string | undefined): string | undefined {
  return (pathEnv ?? "")
    .split(delimiter)
    .filter((folder) => isAbsolute(folder))
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

/** The executable that a configuration names: an absolute path, or a name on a PATH. */
export function locateExecutable(name: string, pathEnv: string | undefined): string | undefined {
  if (!isAbsolute(name)) return findExecutable(name, pathEnv);
  return isExecutable(name) ? name : undefined;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
