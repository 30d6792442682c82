// Writes the list of settings in docs/configuration.md from the comments of
// config.proto. With --check it writes nothing, and ends with 1 if the list is
// not that of the comments.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const root = fileURLToPath(new URL("..", import.meta.url));
const page = `${root}docs/configuration.md`;
const begin = "<!-- What follows is made from config.proto by scripts/configuration-page.mjs. -->\n";

const registry = createFileRegistry(readDescriptors());
const text = readFileSync(page, "utf8");
const at = text.indexOf(begin);
if (at < 0) throw new Error(`${page} has no line ${begin}`);
const wanted = text.slice(0, at + begin.length) + reference();
if (!process.argv.includes("--check")) {
  writeFileSync(page, wanted);
} else if (wanted !== text) {
  process.stderr.write("docs/configuration.md is stale: run node scripts/configuration-page.mjs\n");
  process.exit(1);
}

function readDescriptors() {
  const buf = `${root}node_modules/.bin/buf`;
  const image = execFileSync(buf, ["build", "-o", "-#format=binpb", "--as-file-descriptor-set"], {
    cwd: root,
    maxBuffer: 64 * 1024 * 1024,
  });
  return fromBinary(FileDescriptorSetSchema, image);
}

/** A section for each message and enumeration, from the whole configuration down. */
function reference() {
  const sections = [];
  const waiting = [registry.getMessage("sessionbroker.config.v1.Config")];
  const seen = new Set(waiting);
  for (const desc of waiting) {
    sections.push(desc.kind === "enum" ? enumSection(desc) : messageSection(desc));
    if (desc.kind === "enum") continue;
    for (const field of desc.fields) {
      for (const used of [field.message, field.enum]) {
        if (used === undefined || used.typeName.startsWith("google.protobuf.") || seen.has(used)) continue;
        seen.add(used);
        waiting.push(used);
      }
    }
  }
  return sections.join("");
}

function messageSection(desc) {
  const rows = desc.fields.map(
    (field) => `| \`${field.jsonName}\` | ${typeOf(field)} | ${cell(commentOf(field))} |\n`,
  );
  const table = rows.length === 0 ? "" : `| setting | type | |\n|---|---|---|\n${rows.join("")}`;
  return `\n${headingOf(desc)}${paragraph(commentOf(desc))}${table}`;
}

function enumSection(desc) {
  const rows = desc.values.map((value) => `| \`${value.name}\` | ${cell(commentOf(value))} |\n`);
  return `\n${headingOf(desc)}${paragraph(commentOf(desc))}| value | |\n|---|---|\n${rows.join("")}`;
}

function headingOf(desc) {
  return desc.name === "Config" ? "" : `### ${desc.name}\n\n`;
}

function typeOf(field) {
  if (field.fieldKind === "map") return "map of names and texts";
  if (field.fieldKind === "list") return `list of ${field.listKind === "scalar" ? "texts" : linkTo(field)}`;
  if (field.fieldKind !== "scalar") return linkTo(field);
  return { 8: "true or false", 9: "text" }[field.scalar] ?? "number";
}

function linkTo({ message, enum: values }) {
  const desc = message ?? values;
  if (desc.typeName === "google.protobuf.Duration") return "time, as `90s`";
  return `[${desc.name}](#${desc.name.toLowerCase()})`;
}

function paragraph(comment) {
  return comment === "" ? "" : `${comment.replaceAll("\n", " ")}\n\n`;
}

function cell(comment) {
  return comment.replaceAll("\n", " ").replaceAll("|", "\\|").replaceAll("<", "&lt;");
}

/** The lines before a declaration. */
function commentOf(desc) {
  const path = pathOf(desc);
  const info = desc.kind === "field" ? desc.parent.file : fileOf(desc);
  const location = info.proto.sourceCodeInfo?.location.find(
    (each) => each.path.length === path.length && each.path.every((part, index) => part === path[index]),
  );
  return (location?.leadingComments ?? "")
    .split("\n")
    .map((line) => line.trim())
    .join("\n")
    .trim();
}

function fileOf(desc) {
  return desc.kind === "enum_value" ? desc.parent.file : desc.file;
}

/** Numbers of fields of FileDescriptorProto and its like, with the indexes in them. */
function pathOf(desc) {
  switch (desc.kind) {
    case "message":
      return desc.parent === undefined
        ? [4, desc.file.messages.indexOf(desc)]
        : [...pathOf(desc.parent), 3, desc.parent.nestedMessages.indexOf(desc)];
    case "enum":
      return desc.parent === undefined
        ? [5, desc.file.enums.indexOf(desc)]
        : [...pathOf(desc.parent), 4, desc.parent.nestedEnums.indexOf(desc)];
    case "field":
      return [...pathOf(desc.parent), 2, desc.parent.fields.indexOf(desc)];
    case "enum_value":
      return [...pathOf(desc.parent), 2, desc.parent.values.indexOf(desc)];
    default:
      throw new TypeError(desc.kind);
  }
}
