/** The time, again and again, for what counts down. */

import { controlPlaneUsd, runningUsd } from "@/api/models";
import { clockOffset, clusterQuery, modelsQuery } from "@/api/queries";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

/** The server's Unix seconds, renewed every so many milliseconds while the page is seen. */
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  const client = useQueryClient();
  useEffect(() => {
    const tick = () => {
      if (document.visibilityState === "visible") setNow(Date.now() / 1000);
    };
    const timer = setInterval(tick, everyMs);
    document.addEventListener("visibilitychange", tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }, [everyMs]);
  const told = client.getQueryState(modelsQuery.queryKey);
  return now + clockOffset(told?.data, told?.dataUpdatedAt ?? 0);
}

/** All models, as last heard. */
export const useModels = () => useQuery(modelsQuery);

/** Dollars an hour now, by what was last heard: of all that runs, and of the control plane. Undefined: not heard yet. */
export function useHourly(): { all: number | undefined; controlPlane: number | undefined } {
  const { data: models } = useModels();
  const { data: cluster } = useQuery(clusterQuery);
  const controlPlane = cluster && controlPlaneUsd(cluster);
  return { all: models && runningUsd(models) + (controlPlane ?? 0), controlPlane };
}
