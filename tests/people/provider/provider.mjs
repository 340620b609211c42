// A certified OpenID Connect provider on loopback, for one browser test. Who signs in as "unverified@…" has an address
// that nobody verified; who signs in as "late@…" gets a token that expired an hour ago.
//
//   node provider.mjs PORT REDIRECT_URI

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { Provider } from "oidc-provider";

const [port, redirectUri] = process.argv.slice(2);

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: randomBytes(8).toString("hex"), use: "sig", alg: "RS256" };

const client = (id) => ({
  client_id: id,
  application_type: "native", // a web client would have to come over TLS
  redirect_uris: [redirectUri],
  response_types: ["id_token"],
  grant_types: ["implicit"],
  token_endpoint_auth_method: "none",
});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client("diogenes-desk"), client("another-application")],
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  cookies: { keys: [randomBytes(16).toString("hex")] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: id, email_verified: !id.startsWith("unverified") }),
  }),
  jwks: { keys: [key] },
  responseTypes: ["id_token"],
  ttl: { IdToken: 3600, Interaction: 600, Session: 600, Grant: 600 },
});

const { issue } = provider.IdToken.prototype;
const { now } = Date; // once: two at the same time must not take each other's for it
provider.IdToken.prototype.issue = async function late(...how) {
  if (this.ctx.oidc.session.accountId.startsWith("late")) Date.now = () => now() - 7_200_000;
  try {
    return await issue.apply(this, how);
  } finally {
    Date.now = now;
  }
};

provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
