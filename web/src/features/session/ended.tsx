import type { Config } from "@/api/config";
import { messageOf } from "@/api/errors";
import { useMutation } from "@tanstack/react-query";
import { signIn } from "./sign-in";

/** Said above the page, which stays as it is. */
export function SessionEnded({ config }: { config: Config }) {
  const start = useMutation({ mutationFn: signIn });
  return (
    <div className="banner" role="alert">
      <p>
        {start.error
          ? messageOf(start.error)
          : "Your session has ended. What you wrote is kept, and sent once you are back."}
      </p>
      {config.providers.map((provider) => (
        <button key={provider.id} type="button" className="button" onClick={() => start.mutate(provider)}>
          Sign in again{config.providers.length > 1 ? ` with ${provider.name}` : ""}
        </button>
      ))}
    </div>
  );
}
