/** What the pages ask the server for, how long it holds, and how often it is asked again. */

import { QueryClient, queryOptions } from "@tanstack/react-query";
import { ApiError, isRecord } from "./errors";
import { getCluster, listModels, type Cluster, type Model } from "./models";
import { getSession, rememberedSession } from "./session";

const MODELS_KEPT = "diogenes.models";

export function newQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 5_000,
        retry: (failures, error) => failures < 2 && (!(error instanceof ApiError) || error.status >= 500),
        networkMode: "always", // the server is asked even where the browser believes to be offline: it may be wrong
      },
      mutations: { retry: false, networkMode: "always" },
    },
  });
}

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => getSession(signal),
  initialData: () => rememberedSession(),
  initialDataUpdatedAt: 0,
  staleTime: 10 * 60_000,
  refetchInterval: 30 * 60_000,
});

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => {
    const models = await listModels(signal);
    keepModels(models);
    return models;
  },
  initialData: () => keptModels(),
  initialDataUpdatedAt: 0,
  refetchInterval: (query) => pollEveryMs(query.state.data, document.visibilityState === "visible"),
  refetchIntervalInBackground: true,
});

/** What all of it costs an hour. Money is not watched as closely as a start. */
export const clusterQuery = queryOptions({
  queryKey: ["cluster"],
  queryFn: ({ signal }) => getCluster(signal),
  staleTime: 10_000,
  refetchInterval: ({ state: { data } }) => clusterEveryMs(data),
  retry: false,
});

/** The control plane may go to sleep any moment while it is awake. */
export const clusterEveryMs = (cluster: Pick<Cluster, "run"> | undefined): number => (cluster?.run ? 10_000 : 30_000);

/** As often as something may change; a page that nobody looks at asks for what is starting only. */
export function pollEveryMs(models: readonly Model[] | undefined, visible: boolean): number | false {
  const moving = models?.some(({ status }) => status === "starting" || status === "draining") ?? false;
  if (moving) return visible ? 2_000 : 10_000;
  if (!visible) return false;
  return models?.some(({ status }) => status === "ready") ? 10_000 : 30_000;
}

/** The server's clock minus ours, in seconds, by what it last told of a machine's age. */
export function clockOffset(models: readonly Model[] | undefined, toldAt: number): number {
  const instance = models?.flatMap((model) => model.instances)[0];
  if (!instance || !toldAt) return 0;
  const offset = instance.launched_at + instance.age_s - toldAt / 1000;
  return Math.abs(offset) < 3 ? 0 : offset;
}

/** What was last heard, without logs: it shows while the server is asked. */
function keepModels(models: readonly Model[]): void {
  try {
    localStorage.setItem(MODELS_KEPT, JSON.stringify(models));
  } catch {
    // No room: then it is asked for first.
  }
}

function keptModels(): Model[] | undefined {
  try {
    const told: unknown = JSON.parse(localStorage.getItem(MODELS_KEPT) ?? "null");
    return Array.isArray(told) && told.every((each) => isRecord(each) && isRecord(each["effective"]))
      ? (told as Model[])
      : undefined;
  } catch {
    return undefined;
  }
}
