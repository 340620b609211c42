/** Models for tests, as the server tells them. */

import type { Model } from "@/api/models";

export function modelOf(changes: Partial<Model> = {}): Model {
  const config = { name: "small", instanceTypes: ["g5.xlarge"] };
  return {
    name: "small",
    status: "cold",
    instances: [],
    start: null,
    failure: null,
    waiting_requests: 0,
    idle_timeout_s: 300,
    sleeps_at: null,
    warm_since: null,
    run: null,
    usd_per_h: null,
    keep_awake_until: null,
    config,
    override: {},
    effective: config,
    ...changes,
  };
}
