/** Certificates that a test makes for itself, with the openssl of the machine. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";

export interface Certificate {
  /** Files in PEM. */
  readonly certificate: string;
  readonly key: string;
  /** What the files hold, as the options of Node.js name it. */
  readonly pem: { readonly cert: string; readonly key: string };
}

export interface Wanted {
  /** As openssl takes it, such as "/O=Acme/CN=gateway". */
  readonly subject: string;
  /** Such as "DNS:localhost,IP:127.0.0.1". */
  readonly names?: string;
  /** From now on; negative: it has expired. Default: 2 */
  readonly days?: number;
}

/** Signs certificates, in files of one folder. */
export class TestAuthority {
  #count = 0;

  private constructor(
    private readonly folder: string,
    readonly root: Certificate,
  ) {}

  static async make(folder: string, name = "Test CA"): Promise<TestAuthority> {
    mkdirSync(folder, { recursive: true });
    const [certificate, key] = [join(folder, "ca.pem"), join(folder, "ca.key")];
    const names = ["-subj", `/CN=${name}`, "-days", "2"];
    await execa("openssl", ["req", "-x509", ...newKey, "-keyout", key, "-out", certificate, ...names]);
    return new TestAuthority(folder, described(certificate, key));
  }

  async issue({ subject, names, days = 2 }: Wanted): Promise<Certificate> {
    this.#count += 1;
    const file = (ending: string) => join(this.folder, `${this.#count}.${ending}`);
    const [request, certificate, key] = [file("csr"), file("pem"), file("key")];
    const extension = names === undefined ? [] : ["-addext", `subjectAltName=${names}`];
    const subjectWords = ["-utf8", "-subj", subject, ...extension];
    await execa("openssl", ["req", ...newKey, "-keyout", key, "-out", request, ...subjectWords]);
    const signer = ["-CA", this.root.certificate, "-CAkey", this.root.key, "-copy_extensions", "copy"];
    const out = ["-days", String(days), "-out", certificate];
    await execa("openssl", ["x509", "-req", "-in", request, ...signer, ...out]);
    return described(certificate, key);
  }
}

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

function described(certificate: string, key: string): Certificate {
  return {
    certificate,
    key,
    pem: { cert: readFileSync(certificate, "utf8"), key: readFileSync(key, "utf8") },
  };
}
