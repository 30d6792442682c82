/** The certificates in the configuration: where they are, and what the files hold. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { resolve } from "node:path";
import { createSecureContext } from "node:tls";
import { type Tls, Tls_ClientCertificates } from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { TlsMaterial } from "../server/tls.js";
import { ConfigError } from "./source.js";

export interface TlsSettings {
  /** Absolute paths. */
  readonly certificate: string;
  readonly key: string;
  /** Absent: no certificate is asked for. */
  readonly clientCa?: string;
  readonly clientCertificates: "optional" | "required";
}

export function tlsSettings(tls: Tls): TlsSettings {
  return {
    certificate: resolve(tls.certificate),
    key: resolve(tls.key),
    ...(tls.clientCa === "" ? {} : { clientCa: resolve(tls.clientCa) }),
    clientCertificates: tls.clientCertificates === Tls_ClientCertificates.REQUIRED ? "required" : "optional",
  };
}

/** @throws ConfigError that names the setting and the file, if they cannot be used at this time */
export function readTls(settings: TlsSettings, nowMs: number): TlsMaterial {
  const certificate = readPem("tls.certificate", settings.certificate);
  const key = readPem("tls.key", settings.key);
  const [leaf] = certificatesOf("tls.certificate", settings.certificate, certificate, nowMs);
  const privateKey = privateKeyOf(settings.key, key);
  if (leaf?.checkPrivateKey(privateKey) !== true) {
    throw new ConfigError(
      `tls.key: ${settings.key} is not the key of the certificate in ${settings.certificate}`,
    );
  }
  const { clientCa } = settings;
  const ca = clientCa === undefined ? undefined : readPem("tls.client_ca", clientCa);
  if (clientCa !== undefined && ca !== undefined) certificatesOf("tls.client_ca", clientCa, ca, nowMs);
  const material = {
    certificate,
    key,
    ...(ca === undefined ? {} : { clientCa: ca }),
    clientCertificates: settings.clientCertificates,
    isNamed: (name: string) => (isIP(name) === 0 ? leaf.checkHost(name) : leaf.checkIP(name)) !== undefined,
  };
  try {
    createSecureContext({ cert: certificate, key, ca });
  } catch (error) {
    throw new ConfigError(`tls: ${settings.certificate} cannot be used: ${(error as Error).message}`);
  }
  return material;
}

function readPem(name: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(`${name}: ${file} cannot be read: ${(error as Error).message}`);
  }
}

/** One at least, and each of them in force. */
function certificatesOf(name: string, file: string, pem: string, nowMs: number): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs) ?? [];
  if (blocks.length === 0) throw new ConfigError(`${name}: ${file} holds no certificate in PEM`);
  return blocks.map((block) => {
    const certificate = parse(
      () => new X509Certificate(block),
      `${name}: ${file} holds a broken certificate`,
    );
    if (Date.parse(certificate.validTo) <= nowMs) {
      throw new ConfigError(`${name}: the certificate in ${file} has expired, on ${certificate.validTo}`);
    }
    if (Date.parse(certificate.validFrom) > nowMs) {
      throw new ConfigError(`${name}: the certificate in ${file} is valid from ${certificate.validFrom} on`);
    }
    return certificate;
  });
}

function privateKeyOf(file: string, pem: string): KeyObject {
  if (/ENCRYPTED/.test(pem)) {
    throw new ConfigError(`tls.key: ${file} is encrypted; give a key that needs no passphrase`);
  }
  return parse(() => createPrivateKey(pem), `tls.key: ${file} holds no private key in PEM`);
}

function parse<T>(read: () => T, problem: string): T {
  try {
    return read();
  } catch (error) {
    throw new ConfigError(`${problem}: ${(error as Error).message}`);
  }
}
