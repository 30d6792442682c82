import { describe, expect, it } from "vitest";
import { subjectText } from "./tls.js";

describe("subjectText", () => {
  // On the left as X509Certificate has it, on the right as `openssl x509 -subject -nameopt RFC2253,-esc_msb,utf8`.
  it.each([
    ["CN=gateway", "CN=gateway"],
    ["C=DE\nO=Acme\nCN=gateway", "CN=gateway,O=Acme,C=DE"],
    ["L=here + O=Ac\\, me\\ \nCN=gateway", "CN=gateway,O=Ac\\, me\\ +L=here"],
    ["O=a \\+ b\nCN=Zoë", "CN=Zoë,O=a \\+ b"],
  ])("of %j", (lines, text) => {
    expect(subjectText(lines)).toBe(text);
  });
});
