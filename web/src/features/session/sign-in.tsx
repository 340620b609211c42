/** The page before the session. */

import type { Config, Provider } from "@/api/config";
import { messageOf } from "@/api/errors";
import { safeReturn, startSession } from "@/api/session";
import { Command } from "@/ui/copy";
import { Jar } from "@/ui/icons";
import { useMutation } from "@tanstack/react-query";
import { useEffect } from "react";

export function SignIn({ config, problem }: { config: Config; problem?: string | undefined }) {
  useEffect(() => {
    document.title = "Sign in · Diogenes";
  }, []);
  const start = useMutation({ mutationFn: (provider: Provider) => signIn(provider) });
  const told = start.error ? messageOf(start.error) : problem;
  return (
    <main className="sign-in">
      <Jar lamp="asleep" size={72} />
      <h1>Diogenes</h1>
      <p className="lead">Your models sleep until you call.</p>
      {told && (
        <p className="problem" role="alert">
          {told}
        </p>
      )}
      {config.providers.map((provider) => (
        <button
          key={provider.id}
          type="button"
          className="button primary large"
          disabled={start.isPending}
          onClick={() => start.mutate(provider)}
        >
          Sign in with {provider.name}
        </button>
      ))}
      {config.providers.length ? <NotYou /> : <KeysOnly />}
    </main>
  );
}

/** Leaves the page; it comes back to where it was. */
export async function signIn(provider: Provider): Promise<void> {
  location.assign(await startSession(provider.id, safeReturn(location.pathname + location.search)));
}

function NotYou() {
  return (
    <details className="not-you">
      <summary>Only listed addresses may sign in. Is yours missing?</summary>
      <p>The owner adds an address under Settings, or where Diogenes was deployed:</p>
      <Command text={"pulumi config set --path 'diogenes:allowedEmails[1]' you@example.com && pulumi up"} />
    </details>
  );
}

function KeysOnly() {
  return (
    <>
      <p>This deployment takes API keys only. Nobody can sign in with a browser until a provider is configured:</p>
      <Command
        text={
          "pulumi config set diogenes:keysOnly false\npulumi config set diogenes:googleClientId …\npulumi config set --path 'diogenes:allowedEmails[0]' you@example.com\npulumi up"
        }
      />
    </>
  );
}
