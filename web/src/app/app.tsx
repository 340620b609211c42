/** Who sees what: the configuration, then the session, then the pages. */

import { loadConfig, type Config } from "@/api/config";
import { Returned } from "@/features/session/returned";
import { SignIn } from "@/features/session/sign-in";
import { useSigned } from "@/features/session/watch";
import { Loading, Trouble } from "@/ui/page";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useLocation } from "wouter";
import { Routes } from "./routes";
import { Shell } from "./shell";

const configQuery = queryOptions({ queryKey: ["config"], queryFn: loadConfig, staleTime: Infinity, retry: 3 });

export function App() {
  const { data: config, error, refetch } = useQuery(configQuery);
  if (config) return <Signed config={config} />;
  return (
    <main className="sign-in">
      {error ? <Trouble error={error} again={() => void refetch()} /> : <Loading what="Diogenes" />}
    </main>
  );
}

function Signed({ config }: { config: Config }) {
  const signed = useSigned();
  const [path] = useLocation();
  if (path === "/signin") return <Returned config={config} />;
  switch (signed.state) {
    case "asking":
      return (
        <main className="sign-in">
          <Loading what="your session" />
        </main>
      );
    case "out":
      return <SignIn config={config} />;
    case "in":
      return (
        <Shell key={signed.session.email} session={signed.session} ended={signed.ended} config={config}>
          <Routes session={signed.session} config={config} />
        </Shell>
      );
  }
}
